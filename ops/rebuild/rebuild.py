"""One rebuild from beginning to end, in one transaction: it is there as a whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from forebay.archive.decisions import NOTHING_READ, read_log
from forebay.db.connect import Connection
from forebay.db.faults import fault_detail, is_data_fault
from forebay.decisions.log import DecisionLog
from forebay.decisions.rejections import Rejection
from forebay.decisions.undo import undo
from ops.console import Console, Meter
from ops.context import DATABASE, Context
from ops.cut import EVERYTHING, accepted, commands_until
from ops.errors import RefusedError
from ops.folding.fold import ObjectCounts
from ops.folding.partition import Partition, Writer
from ops.folding.scan import INFLATION, NAMED, Numbers, Scanned, add_rejections, up_to
from ops.rebuild.crew import Crew
from ops.rebuild.load import Loader
from ops.rebuild.refusals import NotRebuiltError, Refusals
from ops.rebuild.share import Folded, Share
from ops.rebuild.target import PutOff, check_empty, put_off, tables
from ops.rejections import audit

#: Of gzip; below, processes would take longer to start than to work.
_SMALL_BYTES = 16 * 1024 * 1024
_MOST = 8  # processes, of a hundred MiB each: with more, Postgres's COPY is the limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What was made."""

    objects: int
    commands: int
    #: Commands that were accepted after the cut.
    after_cut: int
    rows: int
    tombstones: int
    rejections: int
    decisions: int
    #: Commands of retired resources.
    skipped: int
    ledger_rows: int
    #: That read and folded.
    processes: int
    #: Objects in which commands were rejected, and that the archive lacks: it is incomplete.
    missing: Sequence[str]
    #: Objects that hold commands of other times than their names say, and the first of them.
    misplaced: int
    misplaced_named: Sequence[str]

    def facts(self) -> dict[str, Any]:
        """For the operator."""
        return {
            "objects": self.objects,
            "commands": self.commands,
            "commands_after_cut": self.after_cut,
            "rows": self.rows,
            "tombstones": self.tombstones,
            "rejections": self.rejections,
            "decisions": self.decisions,
            "skipped": self.skipped,
            "ledger_rows": self.ledger_rows,
            "processes": self.processes,
            "objects_missing_in_archive": len(self.missing),
            "missing_in_archive": self.missing[:NAMED],
            "objects_misplaced": self.misplaced,
            "misplaced": [*self.misplaced_named],
        }


def prepare(context: Context) -> None:
    """Gives the database the newest schema, and makes sure that it holds nothing.

    Raises:
        RefusedError: it is not empty; nothing was changed.
    """
    # Alembic and SQLAlchemy take as long to import as all the rest: no other command waits.
    from lambdas.migrate.app import migrate  # noqa: PLC0415

    # A database that is refused stays as it is, its schema included.
    with context.connect(purpose="rebuild") as connection:
        check_empty(connection, context.resources, may_lack_tables=True)
    migrate(context.get(DATABASE))
    with context.connect(purpose="rebuild") as connection:
        check_empty(connection, context.resources)


def rebuild(
    context: Context,
    console: Console,
    *,
    cut: str,
    scratch: Path | None,
    processes: int | None = None,
) -> Rebuilt:
    """Fills an empty database with what the archive's commands up to the cut come to.

    Args:
        context: says where everything is.
        console: for the progress.
        cut: the greatest command id that counts.
        scratch: folder for temporary files of about the size of the inflated archive.
        processes: how many read and fold; None for one to each processor, and for a small archive
            one.

    Raises:
        RefusedError: the database is not empty, or a command can't apply that the live run has
            not rejected. Nothing was changed.
    """
    total = size = 0
    for found in commands_until(context.archive, cut):
        total, size = total + 1, size + found.size_bytes
    readers = processes or (1 if size < _SMALL_BYTES else min(_MOST, _processors()))
    with ExitStack() as opened:
        folder = Path(
            opened.enter_context(tempfile.TemporaryDirectory(prefix="forebay-", dir=scratch))
        )
        partition = opened.enter_context(
            Partition(folder / "buckets", expected_bytes=size * INFLATION, writers=1 + readers)
        )
        (folder / "ledgers").mkdir()
        shares = [
            Share(context.anew(), cut, partition.files, folder / "ledgers", Numbers(one, readers))
            for one in range(readers)
        ]
        crew = opened.enter_context(Crew(shares))
        with console.progress("read the archive", unit="objects", total=total) as meter:
            scanned = crew.read(lambda commands: meter.advance(1, note=f"{commands:,} commands"))
            # After the commands, so that what is decided about them meanwhile is seen.
            position, owner = NOTHING_READ, None
            with Writer(partition.files, 0) as writer:
                for entry in add_rejections(context.archive, writer, cut=cut, position=None):
                    position, owner = entry.slot, entry.owner or owner
        connection = opened.enter_context(context.connect(purpose="rebuild"))
        filling = _Filling(
            connection, context, cut, shares, scanned, position=position, owner=owner
        )
        with console.progress("load", unit="commands", total=filling.commands) as meter:
            return filling.fill(crew.fold(partition.files.of), meter)


def _processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Filling:
    """The one transaction in which all tables are filled."""

    def __init__(
        self,
        connection: Connection,
        context: Context,
        cut: str,
        shares: Sequence[Share],
        scanned: Sequence[Scanned],
        *,
        position: int,
        owner: str | None,
    ) -> None:
        """A filling.

        Args:
            connection: to the empty database.
            context: says where everything is.
            cut: the greatest command id that counts.
            shares: the readers' shares, which have been read.
            scanned: what each of them has met.
            position: the last entry of the decision log that was read.
            owner: the database that owns the archive, by then.
        """
        self._connection = connection
        self._position = position
        self._owner = owner
        self._context = context
        self._cut = cut
        self._shares = shares
        self._scanned = scanned

    @property
    def commands(self) -> int:
        """How many have been read."""
        return sum(found.commands for found in self._scanned)

    def fill(self, folded: Iterator[Folded], meter: Meter) -> Rebuilt:
        """Fills them with what the commands come to."""
        connection, context, cut = self._connection, self._context, self._cut
        loader = Loader(connection, context.resources)
        with connection.transaction():
            # Nobody else gets in until all is there; and a table emptied here can be copied to
            # frozen.
            every = sql.SQL(", ").join(tables(context.resources))
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(every))
            check_empty(connection, context.resources)
            connection.execute(sql.SQL("TRUNCATE {}").format(every))
            # It may be a database that was emptied by hand, and had followed the decision log.
            connection.execute("DELETE FROM forebay.decision_log")
            later = [
                item for spec in context.resources.values() for item in put_off(connection, spec)
            ]
            # References of all tables first, whatever the order of the tables: the keys that they
            # need can't be dropped before.
            later.sort(key=lambda item: not item.is_reference)
            for item in later:
                connection.execute(item.drop)
            entries = takewhile(
                lambda entry: entry.slot <= self._position, read_log(context.archive)
            )
            rejections = loader.reject(entries, cut)
            decisions = audit.restore(connection, context.archive, until=accepted(cut))
            skipped = self._load(loader, folded, meter)
            _fire_deferred_triggers(connection)
            for item in reversed(later):
                meter.advance(0, note=f"making {item.name}")
                _make(connection, item)
            self._follow_log()
            for table in tables(context.resources):
                connection.execute(sql.SQL("ANALYZE {}").format(table))
            row = connection.execute("SELECT count(*) FROM forebay.ledger").fetchone()
        return Rebuilt(
            objects=sum(found.objects for found in self._scanned),
            commands=self.commands,
            after_cut=sum(found.after_cut for found in self._scanned),
            rows=loader.rows,
            tombstones=loader.tombstones,
            rejections=rejections,
            decisions=decisions,
            skipped=skipped,
            ledger_rows=int(row[0]) if row else 0,
            processes=len(self._shares),
            # Up to a cut, lines that are no commands may be of objects of after it.
            missing=sorted(loader.awaited) if self._cut == EVERYTHING else [],
            misplaced=sum(found.misplaced for found in self._scanned),
            misplaced_named=sorted(key for found in self._scanned for key in found.misplaced_named)[
                :NAMED
            ],
        )

    def _follow_log(self) -> None:
        """Notes how far the decision log was read, and that nothing was rejected since.

        Raises:
            RefusedError: a command whose row was loaded has been rejected meanwhile.
        """
        context = self._context
        for entry in read_log(context.archive, after=self._position):
            rejections = list(map(Rejection.from_archive, up_to(self._cut, entry)))
            if undo(self._connection, context.resources, rejections):
                raise RefusedError(
                    "commands were rejected while the archive was being read; nothing was "
                    "changed. Rebuild again"
                )
        if self._cut == EVERYTHING:
            # Up to a cut, only the rejections up to it were loaded: the rest is taken over later.
            log = DecisionLog(self._connection, context.archive, context.resources)
            log.begin_at(self._position, self._owner)

    def _load(self, loader: Loader, folded: Iterator[Folded], meter: Meter) -> int:
        """Loads everything; how many commands are of retired resources.

        Raises:
            NotRebuiltError: something can't be applied that the live run has not rejected; names
                all of it.
        """
        readers = len(self._shares)
        counts = ObjectCounts(readers * max(found.objects for found in self._scanned))
        refusals = Refusals()
        for found in folded:
            refusals.add(found)
            meter.advance(found.commands)
            if refusals:
                continue  # nothing is loaded any more; what else is refused is named with it
            counts.add(found.tally)
            try:
                loader.load(found)
            except RefusedError as exc:
                refusals.refused_row = str(exc)
        if refusals:
            raise NotRebuiltError(refusals)
        for share in self._shares:
            loader.note(share.ledger, share.numbers, counts)
        return sum(counts.skipped)


def _fire_deferred_triggers(connection: Connection) -> None:
    """Ends the events that deferred triggers wait for: a table that has some gets no index.

    Raises:
        RefusedError: one of them refuses a row.
    """
    try:
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as exc:
        if not is_data_fault(exc):
            raise
        raise RefusedError(
            "a deferred trigger refuses what the archive comes to, and the live run has not "
            f"rejected a command for it: {fault_detail(exc)}; nothing was changed. Look at it, "
            "then rebuild with --allow-new-rejections"
        ) from None


def _make(connection: Connection, item: PutOff) -> None:
    try:
        connection.execute(item.make)
    except psycopg.IntegrityError as exc:
        said = " ".join(str(exc).split())
        raise RefusedError(
            f"{item.name} does not hold for what the archive comes to, and the live run has not "
            f"rejected a command for it: {said}; nothing was changed. Look at it, then rebuild "
            "with --allow-new-rejections"
        ) from None
