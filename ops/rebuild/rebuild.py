"""One rebuild from beginning to end, in one transaction: it is there as a whole, or not at all."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from forebay.db.connect import Connection
from ops.archive.store import StoredObject
from ops.console import Console
from ops.context import DATABASE, Context
from ops.cut import accepted, commands_until
from ops.errors import RefusedError
from ops.folding.fold import ObjectCounts, Winners, fold_bucket
from ops.folding.partition import Partition
from ops.folding.scan import INFLATION, LedgerRow, Scanned, read_rejections, scan
from ops.rebuild.load import Loader
from ops.rebuild.target import PutOff, check_empty, put_off, tables
from ops.rejections import audit

_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What was made."""

    scanned: Scanned
    rows: int
    tombstones: int
    rejections: int
    decisions: int
    ledger_rows: int

    def facts(self) -> dict[str, Any]:
        """For the operator."""
        return {
            "objects": self.scanned.objects,
            "commands": self.scanned.commands,
            "commands_after_cut": self.scanned.after_cut,
            "rows": self.rows,
            "tombstones": self.tombstones,
            "rejections": self.rejections,
            "decisions": self.decisions,
            "ledger_rows": self.ledger_rows,
        }


def prepare(context: Context) -> None:
    """Gives the database the newest schema, and makes sure that it holds nothing.

    Raises:
        RefusedError: it is not empty.
    """
    # Alembic and SQLAlchemy take as long to import as all the rest: no other command waits.
    from lambdas.migrate.app import migrate  # noqa: PLC0415

    migrate(context.get(DATABASE))
    with context.connect(purpose="rebuild") as connection:
        check_empty(connection, context.resources)


def rebuild(context: Context, console: Console, *, cut: str, scratch: Path | None) -> Rebuilt:
    """Fills an empty database with what the archive's commands up to the cut come to.

    Raises:
        RefusedError: the database is not empty, or a command can't apply that the live run has
            not rejected. Nothing was changed.
    """
    store = context.archive
    total = size = 0
    for found in commands_until(store, cut):
        total, size = total + 1, size + found.size_bytes
    with ExitStack() as opened:
        folder = Path(
            opened.enter_context(tempfile.TemporaryDirectory(prefix="forebay-", dir=scratch))
        )
        partition = opened.enter_context(
            Partition(folder / "buckets", expected_bytes=size * INFLATION)
        )
        counts, ledger = ObjectCounts(), folder / "ledger"
        with (
            console.progress("read the archive", unit="objects", total=total) as meter,
            ledger.open("w", encoding="utf-8") as noted,
        ):

            def note(found: StoredObject, read: LedgerRow, later: int) -> None:
                counts.add_object()
                fields = (found.key, read.lines, read.first_id or "", read.last_id or "")
                # Where commands after the cut are left out, the object is not applied.
                noted.write("\t".join(map(str, (*fields, int(not later)))) + "\n")

            scanned = scan(
                store,
                partition,
                cut=cut,
                objects=commands_until(store, cut),
                ledger=None,
                meter=meter,
                noted=note,
            )
        connection = opened.enter_context(context.connect(purpose="rebuild"))
        return _fill(
            connection,
            context,
            console,
            cut=cut,
            partition=partition,
            scanned=scanned,
            ledger=ledger,
            counts=counts,
        )


def _fill(
    connection: Connection,
    context: Context,
    console: Console,
    *,
    cut: str,
    partition: Partition,
    scanned: Scanned,
    ledger: Path,
    counts: ObjectCounts,
) -> Rebuilt:
    loader = Loader(connection, context.resources)
    with (
        console.progress("load", unit="commands", total=scanned.commands) as meter,
        connection.transaction(),
    ):
        # Nobody else gets in until all is there; and a table emptied here can be copied to frozen.
        every = sql.SQL(", ").join(tables(context.resources))
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(every))
        check_empty(connection, context.resources)
        connection.execute(sql.SQL("TRUNCATE {}").format(every))
        later = [item for spec in context.resources.values() for item in put_off(connection, spec)]
        for item in later:
            connection.execute(item.drop)
        rejections = loader.reject(read_rejections(context.archive, cut))
        decisions = audit.restore(connection, context.archive, until=accepted(cut))
        for bucket in partition.buckets():
            winners = fold_bucket(bucket, context.resources, counts)
            _refuse_new_rejections(winners)
            loader.load(winners)
            meter.advance(len(winners.applied))
        loader.note(ledger, counts)
        for item in reversed(later):
            meter.advance(0, note=f"making {item.name}")
            _make(connection, item)
        for table in tables(context.resources):
            connection.execute(sql.SQL("ANALYZE {}").format(table))
        row = connection.execute("SELECT count(*) FROM forebay.ledger").fetchone()
    return Rebuilt(
        scanned=scanned,
        rows=loader.rows,
        tombstones=loader.tombstones,
        rejections=rejections,
        decisions=decisions,
        ledger_rows=int(row[0]) if row else 0,
    )


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


def _refuse_new_rejections(winners: Winners) -> None:
    unknown = winners.bad_lines - winners.rejected
    if not winners.unfit and not unknown and not winners.held:
        return
    if winners.held:
        raise RefusedError(
            f"{winners.held:,} commands have a schema version that this release does not know; "
            "nothing was changed. Rebuild with the newer release"
        )
    named = [f"{command.id} ({reason})" for command, reason in winners.unfit]
    named += [f"{line} (a line that is no command)" for line in sorted(unknown)]
    raise RefusedError(
        f"{len(named):,} commands can't apply that the live run has not rejected: "
        f"{'; '.join(named[:_SHOWN])}; nothing was changed. Look at them, then rebuild with "
        "--allow-new-rejections"
    )
