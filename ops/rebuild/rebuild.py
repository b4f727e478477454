"""Rebuilds a database from the archive, strictly or with new rejections.

The strict rebuild is one transaction: it completes, or it makes no change.
"""

from __future__ import annotations

import datetime as dt
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

from forebay.archive.decisions import NOTHING_READ, LogEntry, read_decision_log
from forebay.db.connect import Connection
from forebay.db.faults import describe_fault, is_data_fault
from forebay.decisions.decision_log import DecisionLog
from forebay.decisions.rejections import Rejection
from forebay.decisions.undo import undo
from forebay.replay.selection import Selection
from ops.archive.listing import count_objects
from ops.console import Console, Meter
from ops.context import DATABASE, Context
from ops.cut import EVERYTHING, get_cut_time, list_commands_until
from ops.errors import RefusedError
from ops.folding.fold import ObjectCounts
from ops.folding.partition import Partition, Writer
from ops.folding.scan import (
    INFLATION,
    NAMED,
    Numbers,
    Scanned,
    add_decisions,
    select_rejections_up_to,
)
from ops.rebuild.crew import Crew
from ops.rebuild.load import Loader
from ops.rebuild.refusals import NotRebuiltError, Refusals
from ops.rebuild.share import Folded, Share
from ops.rebuild.target import PutOff, check_empty, list_tables, put_off
from ops.rejections import audit
from ops.replay.replay import Pace, Totals, replay, start_run

#: The size of the archive's objects below which one process is faster than the start of several.
_SMALL_BYTES = 16 * 1024 * 1024
_MAX_PROCESSES = 8  # of a hundred MiB each; with more, Postgres's COPY is the limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The counts of a rebuild, for the operator."""

    objects: int
    commands: int
    #: Commands after the cut, which were left out.
    after_cut: int
    rows: int
    tombstones: int
    #: Keys with patches.
    edits: int
    rejections: int
    #: Decided commands that passed.
    effects: int
    #: Decided commands without a decision; they and their objects are left to the next run.
    undecided: int
    decisions: int
    #: Commands of retired resources.
    skipped: int
    ledger_rows: int
    #: The number of processes that read and folded.
    processes: int
    #: Objects of rejected commands that are missing in the archive: it is incomplete.
    missing: Sequence[str]
    #: The number of objects with names of another time than their commands, and the first keys.
    misplaced: int
    misplaced_named: Sequence[str]

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result."""
        return {
            "objects": self.objects,
            "commands": self.commands,
            "commands_after_cut": self.after_cut,
            "rows": self.rows,
            "tombstones": self.tombstones,
            "edits": self.edits,
            "rejections": self.rejections,
            "effects": self.effects,
            "undecided": self.undecided,
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
    """Give the database the newest schema; refuse a database with rows.

    Raises:
        RefusedError: the database is not empty; it was not changed.
    """
    # Alembic and SQLAlchemy take as long to import as all other modules of a command.
    from lambdas.migrate.app import migrate  # noqa: PLC0415

    # The schema of a database that is refused must not change either.
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
    """Fill an empty database from the archive's commands up to the cut.

    Args:
        context: the archive and the database.
        console: shows the progress.
        cut: the greatest command id that is included.
        scratch: a folder for temporary files as large as the inflated archive; None for the
            system's folder.
        processes: the number of processes that read and fold; None for the number of processors, or
            for a single process if the archive is small.

    Raises:
        RefusedError: the database is not empty, or a command can't apply that the live run has
            not rejected. The database was not changed.
    """
    total, size = count_objects(list_commands_until(context.archive, cut))
    readers = processes or (1 if size < _SMALL_BYTES else min(_MAX_PROCESSES, _count_processors()))
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="forebay-", dir=scratch))
        )
        partition = stack.enter_context(
            Partition(folder / "buckets", expected_bytes=size * INFLATION, writers=1 + readers)
        )
        ledgers = folder / "ledgers"
        ledgers.mkdir()
        shares = [
            Share(context.copy_settings(), cut, partition.files, ledgers, Numbers(reader, readers))
            for reader in range(readers)
        ]
        crew = stack.enter_context(Crew(shares))
        with console.progress("read the archive", unit="objects", total=total) as meter:
            scanned = crew.read(lambda commands: meter.advance(1, note=f"{commands:,} commands"))
            # After the commands, so that the decisions made since are included.
            position, owner = _read_decisions(context, partition, cut)
        connection = stack.enter_context(context.connect(purpose="rebuild"))
        filling = _Filling(connection, context, cut, shares, scanned, position, owner)
        with console.progress("load", unit="commands", total=filling.commands) as meter:
            return filling.fill(crew.fold(partition.files.of), meter)


def rebuild_leniently(context: Context, console: Console, *, cut: str, workers: int) -> Totals:
    """Fill an empty database like the live run, object by object, and reject what can't apply.

    As in the live run, the order of objects determines which of two conflicting commands is
    rejected. So this is only for archives that have lost their rejections, and for resources with
    changed rules. A database that owns the archive adds the new rejections to it; any other
    database keeps them in its own table.

    Args:
        context: the archive and the database.
        console: shows the progress and the first failures.
        cut: the greatest command id that is included.
        workers: the number of connections.
    """
    time = get_cut_time(cut)
    with context.connect(purpose="rebuild") as connection, connection.transaction():
        # A database that was emptied by hand may have followed the decision log before.
        connection.execute("DELETE FROM forebay.decision_log")
        audit.restore(connection, context.archive, until=time)
    until = time + dt.timedelta(milliseconds=1) if time else None
    selection = Selection(until=until)
    run = start_run(context, selection)
    return replay(context, console, run, selection, Pace(workers=workers), rejects_all=True)


def _read_decisions(context: Context, partition: Partition, cut: str) -> tuple[int, str | None]:
    """Read the archive's decisions into the partition.

    Returns:
        The last entry of the decision log that was read, and the owner of the archive at it.
    """
    position, owner = NOTHING_READ, None
    with Writer(partition.files, 0) as writer:
        for entry in add_decisions(context.archive, writer, cut=cut, position=None):
            position, owner = entry.slot, entry.owner or owner
    return position, owner


def _count_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class _Filling:
    """The transaction that fills all tables."""

    connection: Connection
    context: Context
    #: The greatest command id that is included.
    cut: str
    #: The readers' shares, which have been read, and the counts of each.
    shares: Sequence[Share]
    scanned: Sequence[Scanned]
    #: The last entry of the decision log that was read.
    position: int
    #: The database that owned the archive at that entry.
    owner: str | None

    @property
    def commands(self) -> int:
        """The number of commands that were read."""
        return sum(counts.commands for counts in self.scanned)

    def fill(self, folded: Iterator[Folded], meter: Meter) -> Rebuilt:
        """Fill the tables from the folded commands."""
        connection, archive = self.connection, self.context.archive
        loader = Loader(connection, self.context.resources)
        with connection.transaction():
            indexes = self._empty_tables()
            rejections = loader.load_rejections(self._read_log(), self.cut)
            effects = loader.load_effects(self._read_log(), self.cut)
            decisions = audit.restore(connection, archive, until=get_cut_time(self.cut))
            skipped, undecided = self._load_all(loader, folded, meter)
            _fire_deferred_triggers(connection)
            for index in reversed(indexes):
                meter.advance(0, note=f"creating {index.name}")
                _create(connection, index)
            self._follow_log()
            for table in list_tables(self.context.resources):
                connection.execute(sql.SQL("ANALYZE {}").format(table))
            row = connection.execute("SELECT count(*) FROM forebay.ledger").fetchone()
        return Rebuilt(
            objects=sum(counts.objects for counts in self.scanned),
            commands=self.commands,
            after_cut=sum(counts.after_cut for counts in self.scanned),
            rows=loader.rows,
            tombstones=loader.tombstones,
            edits=loader.edits,
            rejections=rejections,
            effects=effects,
            undecided=undecided,
            decisions=decisions,
            skipped=skipped,
            ledger_rows=int(row[0]) if row else 0,
            processes=len(self.shares),
            # Up to a cut, rejections of invalid lines may be of objects after the cut.
            missing=sorted(loader.awaited) if self.cut == EVERYTHING else [],
            misplaced=sum(counts.misplaced for counts in self.scanned),
            misplaced_named=sorted(
                key for counts in self.scanned for key in counts.misplaced_named
            )[:NAMED],
        )

    def _read_log(self) -> Iterator[LogEntry]:
        entries = read_decision_log(self.context.archive)
        return takewhile(lambda entry: entry.slot <= self.position, entries)

    def _empty_tables(self) -> list[PutOff]:
        """Lock and truncate the tables, and drop their indexes; return the dropped indexes.

        Raises:
            RefusedError: a table has rows.
        """
        connection, resources = self.connection, self.context.resources
        # Other sessions must wait for the whole result. COPY FREEZE needs a table that was
        # truncated in the same transaction.
        targets = sql.SQL(", ").join(list_tables(resources))
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(targets))
        check_empty(connection, resources)
        connection.execute(sql.SQL("TRUNCATE {}").format(targets))
        # A database that was emptied by hand may have followed the decision log before.
        connection.execute("DELETE FROM forebay.decision_log")
        indexes = [index for spec in resources.values() for index in put_off(connection, spec)]
        # The references of all tables first: the keys that they depend on can't be dropped before.
        indexes.sort(key=lambda index: not index.is_reference)
        for index in indexes:
            connection.execute(index.drop)
        return indexes

    def _follow_log(self) -> None:
        """Record the position in the decision log; refuse if a loaded command was rejected since.

        Raises:
            RefusedError: the live run has rejected a command with a row that was loaded.
        """
        archive, resources = self.context.archive, self.context.resources
        for entry in read_decision_log(archive, after=self.position):
            rejections = list(map(Rejection.from_archive, select_rejections_up_to(self.cut, entry)))
            if undo(self.connection, resources, rejections):
                raise RefusedError(
                    "the live run rejected commands while the rebuild read the archive; nothing "
                    "was changed. Rebuild again"
                )
        if self.cut == EVERYTHING:
            # Up to a cut, only the rejections up to it were loaded; a later run reads the rest.
            decision_log = DecisionLog(self.connection, archive, resources)
            decision_log.set_position(self.position, self.owner)

    def _load_all(self, loader: Loader, folded: Iterator[Folded], meter: Meter) -> tuple[int, int]:
        """Load all rows and the ledger.

        Returns:
            The number of commands of retired resources, and of undecided commands.

        Raises:
            NotRebuiltError: commands can't apply, or lines are invalid, and the live run has not
                rejected them; the error contains all of them.
        """
        readers = len(self.shares)
        counts = ObjectCounts(readers * max(share.objects for share in self.scanned))
        refusals = Refusals()
        undecided, incomplete = 0, set[int]()
        for batch in folded:
            refusals.add(batch)
            meter.advance(batch.commands)
            if refusals:
                continue  # collect the other refusals, without loading more rows
            counts.add(batch.tally)
            undecided += batch.undecided
            incomplete |= batch.incomplete
            try:
                loader.load(batch)
            except RefusedError as exc:
                refusals.refused_row = str(exc)
        if refusals:
            raise NotRebuiltError(refusals)
        for reader in self.shares:
            loader.load_ledger(reader.ledger, reader.numbers, counts, incomplete)
        return sum(counts.skipped), undecided


def _fire_deferred_triggers(connection: Connection) -> None:
    """Fire the deferred triggers now: a table with pending trigger events can't get an index.

    Raises:
        RefusedError: a trigger refuses a row.
    """
    try:
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as exc:
        if not is_data_fault(exc):
            raise
        raise RefusedError(
            "a deferred trigger refuses the rows of the archive, and the live run has not rejected "
            f"a command for this reason: {describe_fault(exc)}; nothing was changed. Examine the "
            "rows, then rebuild with --allow-new-rejections"
        ) from None


def _create(connection: Connection, index: PutOff) -> None:
    try:
        connection.execute(index.make)
    except psycopg.IntegrityError as exc:
        reason = " ".join(str(exc).split())
        raise RefusedError(
            f"the rows of the archive violate {index.name}, and the live run has not rejected a "
            f"command for this reason: {reason}; nothing was changed. Examine the rows, then "
            "rebuild with --allow-new-rejections"
        ) from None
