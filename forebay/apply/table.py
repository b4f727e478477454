"""Applies the winners of a resource.

Commands that the table already holds are compared by id only. New rows are copied straight into the
table. Rows that replace others, and deletes, are staged and applied by set-based statements. A
table that usually gets new keys only is first probed for tombstones alone; its rows are compared
only if it does not accept all new rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

# Commands in conflict can take as many passes as there are commands. Hours of that would delay all
# other commands, so conflicts that remain after so many single tries (about a minute) are rejected.
_CONFLICT_TRIES = 20_000


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
            unfit_ids = {command.id for command, _ in unfit}
            winners = [command for command in winners if command.id not in unfit_ids]
        # Deletes first: they may free values of unique columns.
        counts, failures = self._stage_all([item for item in winners if item.op == "delete"])
        put_counts, put_failures = self._apply_puts(
            [item for item in winners if item.op != "delete"]
        )
        retry_counts, refusals = self._retry_conflicts(failures + put_failures)
        return counts + put_counts + retry_counts, refusals + _build_refusals(unfit)

    def _apply_puts(self, puts: Sequence[Command]) -> tuple[Counts, list[Refusal]]:
        """Apply puts and creates."""
        if not puts:
            return Counts(), []
        if not self._habits.is_used_to_new_keys(self.spec.path) or are_buried(
            self._connection, self.spec, self._sql, puts
        ):
            return self._probe_and_apply(puts)
        inserted = self._new_rows.insert(puts)
        existing = [command for rows in inserted.others for command in rows.commands]
        beaten_counts, refusals = self._drop_beaten(inserted.refusals)
        counts, failures = self._probe_and_apply(existing)
        return counts + beaten_counts + Counts(applied=inserted.rows), refusals + failures

    def _drop_beaten(self, refusals: list[Refusal]) -> tuple[Counts, list[Refusal]]:
        """Drop refusals of commands that lose to the table: they need no decision."""
        if not refusals:
            return Counts(), []
        counts, unbeaten_ids = self.without_beaten([refusal.command for refusal in refusals])
        return counts, [refusal for refusal in refusals if refusal.command.id in unbeaten_ids]

    def without_beaten(self, puts: Sequence[Command]) -> tuple[Counts, set[str]]:
        """Count the commands that the table has or that lose to it; return the ids of the others.

        Args:
            puts: puts and creates.
        """
        probed = probe(self._connection, self.spec, self._sql, puts)
        unbeaten_ids = {command.id for command in (*probed.fresh, *probed.contested)}
        return Counts(duplicates=probed.here, superseded=probed.beaten), unbeaten_ids

    def _probe_and_apply(self, puts: Sequence[Command]) -> tuple[Counts, list[Refusal]]:
        """Probe, then apply; a command that loses to the table is compared by its id only."""
        if not puts:
            return Counts(), []
        probed = probe(self._connection, self.spec, self._sql, puts)
        self._habits.note(self.spec.path, all_new=len(probed.fresh) == len(puts))
        counts = Counts(duplicates=probed.here, superseded=probed.beaten)
        inserted = self._new_rows.insert(probed.fresh)
        changed_counts, failures = self._stage_all(probed.contested)
        if inserted.others:
            late_counts, refused_late = self._bisect(Pieces(inserted.others))
            changed_counts, failures = changed_counts + late_counts, failures + refused_late
        counts += Counts(applied=inserted.rows) + changed_counts
        return counts, inserted.refusals + failures

    def _stage_all(self, commands: Sequence[Command]) -> tuple[Counts, list[Refusal]]:
        if not commands:
            return Counts(), []
        unfit: Unfit = []
        counts, refusals = self._bisect(Pieces(self._encode_rows(commands, unfit)))
        return counts, refusals + _build_refusals(unfit)

    def _encode_rows(self, commands: Sequence[Command], unfit: Unfit) -> Iterator[RowSet]:
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
                return self._apply_staged(group)
        except psycopg.Error as exc:
            if not is_data_fault(exc) or needs_newer_code(exc, self.spec):
                raise
            rows = group.whole()
            if not rows:  # an error without data
                raise
            if len(rows) == 1:
                return Counts(), [refused(rows.commands[0], exc, self.spec)]
            error = exc
        if conflicts := self._conflicts.find(list(rows), error):
            remaining = rows.without(conflicts)
            counts, other_refusals = (
                self._bisect(Pieces([remaining])) if remaining else (Counts(), [])
            )
            return counts, [*conflicts.values(), *other_refusals]
        middle = len(rows) // 2
        left_counts, left_refusals = self._bisect(Pieces([rows.part(0, middle)]))
        right_counts, right_refusals = self._bisect(Pieces([rows.part(middle)]))
        return left_counts + right_counts, left_refusals + right_refusals

    def _retry_conflicts(self, refusals: list[Refusal]) -> tuple[Counts, list[Refusal]]:
        """Retry commands that conflicted with a neighbour, after all others are applied.

        Each pass reverses the order, so a chain (each key takes the value that the next key gives
        up) is resolved in two passes, whichever end comes first.
        """
        counts, tries = Counts(), 0
        while tries < _CONFLICT_TRIES:
            refusals = self._mark_hopeless(refusals)
            conflicts = [refusal for refusal in reversed(refusals) if refusal.conflict]
            final = [refusal for refusal in refusals if not refusal.conflict]
            unresolved: list[Refusal] = []
            for refusal in conflicts:
                item = Encoded(refusal.command, self._encode_one(refusal.command))
                applied, remaining = self._bisect(Pieces([RowSet.of([item])]))
                counts += applied
                unresolved += remaining
            tries += len(conflicts)
            refusals = final + unresolved
            if len(unresolved) == len(conflicts):  # no progress, or nothing to do
                break
        swapped, refusals = self._swap(refusals)
        return counts + swapped, refusals

    def _mark_hopeless(self, refusals: list[Refusal]) -> list[Refusal]:
        """Mark refusals that no other refused command can resolve as final."""
        rows = [
            Encoded(refusal.command, self._encode_one(refusal.command))
            for refusal in refusals
            if refusal.conflict
        ]
        by_constraint = {
            refusal.conflict.diag.constraint_name: refusal.conflict
            for refusal in refusals
            if refusal.conflict
        }
        final = {
            refusal.command.id: replace(refusal, conflict=None)
            for error in by_constraint.values()
            for refusal in self._conflicts.hopeless(rows, error).values()
        }
        return [final.get(refusal.command.id, refusal) for refusal in refusals]

    def _swap(self, refusals: list[Refusal]) -> tuple[Counts, list[Refusal]]:
        """Apply commands that block each other in a ring, such as two keys that swap a value.

        Deletes the rows that they replace first. If the ring still fails, all changes are undone.
        """
        ring = [refusal for refusal in refusals if refusal.conflict]
        if len(ring) < 2:  # noqa: PLR2004 - a ring has at least two
            return Counts(), refusals
        rows = RowSet.of(
            [Encoded(candidate.command, self._encode_one(candidate.command)) for candidate in ring]
        )
        self._stage.clear()
        try:
            with self._connection.transaction():
                counts, unreadable = self._apply_staged(Pieces([rows]), swapping=True)
        except psycopg.Error as exc:
            if not is_data_fault(exc):
                raise
            return Counts(), refusals
        return counts, [candidate for candidate in refusals if not candidate.conflict] + unreadable

    def _apply_staged(
        self, group: Pieces, *, swapping: bool = False
    ) -> tuple[Counts, list[Refusal]]:
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
        rows = self._count_unchanged(puts, upserted, self._sql.count_rows_at_version)
        graves = self._count_unchanged(deletes, deleted, self._sql.count_tombstones_at_version)
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

    def _count_unchanged(self, total: int, changed_rows: int, count: psycopg.sql.Composed) -> int:
        """How many of the commands without a change were in the table before, by their ids."""
        if changed_rows == total:
            return 0
        row = self._connection.execute(count).fetchone()
        return int(row[0]) - changed_rows if row else 0


def _build_refusals(unfit: Unfit) -> list[Refusal]:
    return [Refusal(command, exc.code, str(exc)) for command, exc in unfit]
