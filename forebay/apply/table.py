"""Applies the winners of a resource.

Commands that the table already holds are compared by id only. New rows are copied straight into the
table. Rows that replace others, and deletes, are staged and applied by set-based statements. A
table that usually gets new keys only is first probed for tombstones alone; its rows are compared
only if it does not accept all new rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import psycopg

from forebay.apply.conflicts import Conflicts
from forebay.apply.habits import Habits
from forebay.apply.newrows import NewRows
from forebay.apply.outcome import Counts
from forebay.apply.probe import are_buried, probe
from forebay.apply.rows import RowsEncoder, Unfit, row_encoder, unfit_keys
from forebay.apply.rowset import PIECE, Encoded, Pieces, RowSet
from forebay.apply.staging import Refusal, Stage, refused
from forebay.apply.statements import statements
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.db.faults import is_data_fault, needs_newer_code
from forebay.resource.spec import ResourceSpec

_LOCK_CLASS = 0x46424159  # "FBAY": the first key of the advisory locks of resources
# Commands in conflict can take as many passes as there are commands. Hours of that would delay all
# other commands, so conflicts that remain after so many single tries (about a minute) are rejected.
_CONFLICT_TRIES = 20_000


def lock_resources(connection: Connection, paths: Iterable[str], *, exclusive: bool) -> None:
    """Take the resources' locks until the transaction ends, in the same order everywhere.

    Chunks without deletes share a lock. Chunks with deletes need it exclusively: a delete of a key
    without a row meets no lock of a row that another transaction is about to insert. Decisions need
    it exclusively too, so that no other transaction applies the command at the same time.
    """
    function = "pg_advisory_xact_lock" if exclusive else "pg_advisory_xact_lock_shared"
    for lock in sorted({_lock_id(path) for path in paths}):
        connection.execute(f"SELECT {function}(%s, %s)", [_LOCK_CLASS, lock])


def lock_for_chunk(
    connection: Connection, paths: Collection[str], deleting: AbstractSet[str]
) -> None:
    """Take the locks of a chunk: exclusively for the resources in `deleting`."""
    for path in sorted(paths, key=_lock_id):
        lock_resources(connection, [path], exclusive=path in deleting)


def _lock_id(path: str) -> int:
    return zlib.crc32(path.encode()) - 2**31


class TableApplier:
    """Applies commands of a resource over a connection."""

    def __init__(
        self, connection: Connection, spec: ResourceSpec, habits: Habits | None = None
    ) -> None:
        self.spec = spec
        self._habits = habits or Habits()
        self._connection = connection
        self._encode = RowsEncoder(spec)
        self._encode_one = row_encoder(spec)
        self._sql = statements(spec)
        self._new_rows = NewRows(connection, spec, self._sql)
        self._stage = Stage(connection, spec, self._sql)
        self._conflicts = Conflicts(connection, spec)

    def begin(self, *, anew: bool = False) -> None:
        """Begin a transaction; call it before `apply`.

        Args:
            anew: recreate the staging table, because its columns' types may have changed.
        """
        self._stage.begin(anew=anew)

    def apply(self, winners: Sequence[Command]) -> tuple[Counts, list[Refusal]]:
        """Apply commands of different keys; return counts, and refusals of the other commands.

        Raises:
            psycopg.Error: not the data's fault.
        """
        unfit = unfit_keys(self.spec, winners)
        if unfit:
            names = {command.id for command, _ in unfit}
            winners = [command for command in winners if command.id not in names]
        # Deletes first: they may free values of unique columns.
        counts, failed = self._stage_all([item for item in winners if item.op == "delete"])
        done, found = self._put([item for item in winners if item.op != "delete"])
        again, refusals = self._retry_conflicts(failed + found)
        return counts + done + again, refusals + _refusals(unfit)

    def _put(self, puts: Sequence[Command]) -> tuple[Counts, list[Refusal]]:
        """Apply puts and creates."""
        if not puts:
            return Counts(), []
        if not self._habits.is_used_to_new_keys(self.spec.path) or are_buried(
            self._connection, self.spec, self._sql, puts
        ):
            return self._ask_and_put(puts)
        inserted = self._new_rows.insert(puts)
        met = [command for rows in inserted.others for command in rows.commands]
        beaten, refusals = self._still_wanted(inserted.refusals)
        counts, failed = self._ask_and_put(met)
        return counts + beaten + Counts(applied=inserted.rows), refusals + failed

    def _still_wanted(self, refusals: list[Refusal]) -> tuple[Counts, list[Refusal]]:
        """Drop refusals of commands that lose to the table: they need no decision."""
        if not refusals:
            return Counts(), []
        counts, wanted = self.without_beaten([refusal.command for refusal in refusals])
        return counts, [refusal for refusal in refusals if refusal.command.id in wanted]

    def without_beaten(self, puts: Sequence[Command]) -> tuple[Counts, set[str]]:
        """Count the commands that the table has or that lose to it; return the ids of the others.

        Args:
            puts: puts and creates.
        """
        probed = probe(self._connection, self.spec, self._sql, puts)
        wanted = {command.id for command in (*probed.fresh, *probed.contested)}
        return Counts(duplicates=probed.here, superseded=probed.beaten), wanted

    def _ask_and_put(self, puts: Sequence[Command]) -> tuple[Counts, list[Refusal]]:
        """Probe, then apply; a command that loses to the table is compared by its id only."""
        if not puts:
            return Counts(), []
        probed = probe(self._connection, self.spec, self._sql, puts)
        self._habits.note(self.spec.path, all_new=len(probed.fresh) == len(puts))
        counts = Counts(duplicates=probed.here, superseded=probed.beaten)
        inserted = self._new_rows.insert(probed.fresh)
        changed, failed = self._stage_all(probed.contested)
        if inserted.others:
            late, refused_late = self._bisect(Pieces(inserted.others))
            changed, failed = changed + late, failed + refused_late
        counts += Counts(applied=inserted.rows) + changed
        return counts, inserted.refusals + failed

    def _stage_all(self, commands: Sequence[Command]) -> tuple[Counts, list[Refusal]]:
        if not commands:
            return Counts(), []
        unfit: Unfit = []
        counts, refusals = self._bisect(Pieces(self._rows(commands, unfit)))
        return counts, refusals + _refusals(unfit)

    def _rows(self, commands: Sequence[Command], unfit: Unfit) -> Iterator[RowSet]:
        """Yield rows in pieces, encoded while Postgres processes the piece before."""
        for start in range(0, len(commands), PIECE):
            rows = self._encode(commands[start : start + PIECE])
            unfit += rows.unfit
            yield from rows.parts

    def _bisect(self, group: Pieces) -> tuple[Counts, list[Refusal]]:
        """Apply all rows together; if that fails on the data, apply them without the guilty rows.

        If the guilty rows can't be identified, try each half separately.
        """
        self._stage.clear()
        try:
            with self._connection.transaction():
                return self._run(group)
        except psycopg.Error as exc:
            if not is_data_fault(exc) or needs_newer_code(exc, self.spec):
                raise
            rows = group.whole()
            if not rows:  # an error without data
                raise
            if len(rows) == 1:
                return Counts(), [refused(rows.commands[0], exc, self.spec)]
            error = exc
        if kept_out := self._conflicts.find(list(rows), error):
            rest = rows.without(kept_out)
            counts, others = self._bisect(Pieces([rest])) if rest else (Counts(), [])
            return counts, [*kept_out.values(), *others]
        middle = len(rows) // 2
        left_counts, left = self._bisect(Pieces([rows.part(0, middle)]))
        right_counts, right = self._bisect(Pieces([rows.part(middle)]))
        return left_counts + right_counts, left + right

    def _retry_conflicts(self, refused: list[Refusal]) -> tuple[Counts, list[Refusal]]:
        """Retry commands that conflicted with a neighbour, after all others are applied.

        Each pass reverses the order, so a chain (each key takes the value that the next key gives
        up) is resolved in two passes, whichever end comes first.
        """
        counts, tries = Counts(), 0
        while tries < _CONFLICT_TRIES:
            refused = self._without_hopeless(refused)
            conflicts = [refusal for refusal in reversed(refused) if refusal.conflict]
            left = [refusal for refusal in refused if not refusal.conflict]
            still: list[Refusal] = []
            for refusal in conflicts:
                item = Encoded(refusal.command, self._encode_one(refusal.command))
                done, again = self._bisect(Pieces([RowSet.of([item])]))
                counts += done
                still += again
            tries += len(conflicts)
            refused = left + still
            if len(still) == len(conflicts):  # no progress, or nothing to do
                break
        swapped, refused = self._swap(refused)
        return counts + swapped, refused

    def _without_hopeless(self, refused: list[Refusal]) -> list[Refusal]:
        """Mark refusals that no other refused command can resolve as final."""
        rows = [
            Encoded(refusal.command, self._encode_one(refusal.command))
            for refusal in refused
            if refusal.conflict
        ]
        by_constraint = {
            refusal.conflict.diag.constraint_name: refusal.conflict
            for refusal in refused
            if refusal.conflict
        }
        hopeless = {
            refusal.command.id: replace(refusal, conflict=None)
            for error in by_constraint.values()
            for refusal in self._conflicts.hopeless(rows, error).values()
        }
        return [hopeless.get(refusal.command.id, refusal) for refusal in refused]

    def _swap(self, refused: list[Refusal]) -> tuple[Counts, list[Refusal]]:
        """Apply commands that block each other in a ring, such as two keys that swap a value.

        Deletes the rows that they replace first. If the ring still fails, all changes are undone.
        """
        ring = [refusal for refusal in refused if refusal.conflict]
        if len(ring) < 2:  # noqa: PLR2004 - a ring has at least two
            return Counts(), refused
        rows = RowSet.of([Encoded(one.command, self._encode_one(one.command)) for one in ring])
        self._stage.clear()
        try:
            with self._connection.transaction():
                counts, unreadable = self._run(Pieces([rows]), swapping=True)
        except psycopg.Error as exc:
            if not is_data_fault(exc):
                raise
            return Counts(), refused
        return counts, [one for one in refused if not one.conflict] + unreadable

    def _run(self, group: Pieces, *, swapping: bool = False) -> tuple[Counts, list[Refusal]]:
        run = self._connection.execute
        staged, refusals = self._stage.fill(group)
        if swapping:
            run(self._sql.delete_replaced)
        deletes = sum(command.op == "delete" for command in staged)
        puts = len(staged) - deletes
        deleted = 0
        if deletes:
            run(self._sql.delete_rows)
            deleted = run(self._sql.bury).rowcount
        upserted = self._upsert() if puts else 0
        rows = self._unchanged(puts, upserted, self._sql.count_rows_at_version)
        graves = self._unchanged(deletes, deleted, self._sql.count_tombstones_at_version)
        applied = upserted + deleted
        counts = Counts(
            applied=applied,
            duplicates=rows + graves,
            superseded=len(staged) - applied - rows - graves,
        )
        return counts, refusals

    def _upsert(self) -> int:
        # Only chunks with the exclusive lock make tombstones, so the result holds until the commit.
        buried = self._connection.execute(
            "SELECT FROM forebay.tombstones WHERE resource = %s LIMIT 1", [self.spec.path]
        ).fetchone()
        if buried is None:
            return self._connection.execute(self._sql.upsert_unburied).rowcount
        upserted = self._connection.execute(self._sql.upsert).rowcount
        self._connection.execute(self._sql.unbury)
        return upserted

    def _unchanged(self, wanted: int, changed: int, count: psycopg.sql.Composed) -> int:
        """How many of the commands without a change were in the table before, by their ids."""
        if changed == wanted:
            return 0
        row = self._connection.execute(count).fetchone()
        return int(row[0]) - changed if row else 0


def _refusals(unfit: Unfit) -> list[Refusal]:
    return [Refusal(command, exc.code, str(exc)) for command, exc in unfit]
