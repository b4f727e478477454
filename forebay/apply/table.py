"""Applies the winners of a resource.

Commands that the table already holds are compared by id only. New rows are copied straight into the
table. Rows that replace others, and deletes, are staged and applied by set-based statements. A
table that usually gets new keys only is first probed for tombstones alone; its rows are compared
only if it does not accept all new rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import psycopg

from forebay.apply.conflicts import Conflicts
from forebay.apply.copying import NewRows, Stage
from forebay.apply.results import Counts, Result
from forebay.apply.rows import PIECE, Encoder, Rows, RowStream
from forebay.apply.statements import Table
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.db.faults import is_data_fault, needs_newer_code
from forebay.decisions.refusals import Refusal
from forebay.resource.spec import ResourceSpec

# Commands in conflict can take as many passes as there are commands. Hours of that would delay all
# other commands, so conflicts that remain after so many single tries (about a minute) are rejected.
_CONFLICT_TRIES = 20_000


@dataclass(frozen=True, slots=True)
class Habits:
    """How many chunks in a row brought a table new keys only.

    A performance hint; it never changes the result. With the habit, apply inserts rows without a
    probe, and probes only the rows that could not be inserted. Threads may share an instance.
    """

    #: Chunks in a row that make a habit. With a single chunk, a rare existing key (one in ten
    #: thousand) would waste more COPYs than the skipped probes save.
    needed: int = 3
    _in_a_row: Counter[str] = field(default_factory=Counter)

    def is_used_to_new_keys(self, path: str) -> bool:
        """Return whether a resource's next chunk probably has new keys only."""
        return self._in_a_row[path] >= self.needed

    def note(self, path: str, *, all_new: bool) -> None:
        """Record whether a chunk of a resource had new keys only."""
        self._in_a_row[path] = self._in_a_row[path] + 1 if all_new else 0


class TableApplier:
    """Applies commands of a resource over a connection."""

    def __init__(self, connection: Connection, spec: ResourceSpec, habits: Habits) -> None:
        self._spec = spec
        self._habits = habits
        self._connection = connection
        self._table = Table(connection, spec)
        self._encoder = Encoder(spec)
        self._conflicts = Conflicts(self._table)
        self._new_rows = NewRows(self._table, self._encoder, self._conflicts)
        self._stage = Stage(self._table)

    def begin(self, *, recreate: bool = False) -> None:
        """Begin a transaction; call it before `apply`.

        Args:
            recreate: recreate the staging table, because its columns' types may have changed.
        """
        self._stage.begin(recreate=recreate)

    def apply(self, winners: Sequence[Command]) -> Result:
        """Apply commands of different keys.

        Raises:
            psycopg.Error: not the data's fault.
        """
        unstorable = self._encoder.refuse_keys(winners)
        if unstorable:
            unstorable_ids = {refusal.command.id for refusal in unstorable}
            winners = [command for command in winners if command.id not in unstorable_ids]
        # Deletes first: they may free values of unique columns.
        result = self._stage_all([item for item in winners if item.op == "delete"])
        result += self._apply_puts([item for item in winners if item.op != "delete"])
        return self._retry_conflicts(result) + Result(refusals=unstorable)

    def drop_beaten(self, refusals: Sequence[Refusal]) -> Result:
        """Count the refused commands that the table has, or that lose to it: no decision is needed.

        Args:
            refusals: of puts and creates with keys that Postgres can store.
        """
        if not refusals:
            return Result()
        probed = self._table.probe([refusal.command for refusal in refusals])
        unbeaten_ids = {command.id for command in (*probed.fresh, *probed.contested)}
        return Result(probed.counts, [r for r in refusals if r.command.id in unbeaten_ids])

    def refuse_keys(self, commands: Sequence[Command]) -> list[Refusal]:
        """Refuse the commands whose keys Postgres can't store."""
        return self._encoder.refuse_keys(commands)

    def _apply_puts(self, puts: Sequence[Command]) -> Result:
        """Apply puts and creates."""
        if not puts:
            return Result()
        if not self._habits.is_used_to_new_keys(self._spec.path) or self._table.are_buried(puts):
            return self._probe_and_apply(puts)
        inserted = self._new_rows.insert(puts)
        result = Result(inserted.counts) + self.drop_beaten(inserted.refusals)
        return result + self._probe_and_apply(inserted.deferred)

    def _probe_and_apply(self, puts: Sequence[Command]) -> Result:
        """Probe, then apply; a command that loses to the table is compared by its id only."""
        if not puts:
            return Result()
        probed = self._table.probe(puts)
        self._habits.note(self._spec.path, all_new=len(probed.fresh) == len(puts))
        inserted = self._new_rows.insert(probed.fresh)
        result = Result(probed.counts + inserted.counts, inserted.refusals)
        result += self._stage_all(probed.contested)
        return result + self._stage_all(inserted.deferred)

    def _stage_all(self, commands: Sequence[Command]) -> Result:
        if not commands:
            return Result()
        refusals: list[Refusal] = []
        result = self._bisect(RowStream(self._encode(commands, refusals)))
        return result + Result(refusals=refusals)

    def _encode(self, commands: Sequence[Command], refusals: list[Refusal]) -> Iterator[Rows]:
        """Yield rows in pieces, encoded while Postgres processes the piece before."""
        for start in range(0, len(commands), PIECE):
            encoded = self._encoder.encode(commands[start : start + PIECE])
            refusals += encoded.refusals
            yield encoded.rows

    def _bisect(self, stream: RowStream) -> Result:
        """Apply all rows together; if that fails on the data, apply them without the guilty rows.

        If the guilty rows can't be identified, try each half separately.
        """
        self._stage.clear()
        try:
            with self._connection.transaction():
                return self._apply_staged(stream)
        except psycopg.Error as exc:
            if not is_data_fault(exc) or needs_newer_code(exc, self._spec):
                raise
            rows = stream.collect()
            if not rows:  # an error without data
                raise
            if len(rows) == 1:
                return Result(refusals=[Refusal.of_row(rows.commands[0], exc, self._spec)])
            error = exc
        if conflicts := self._conflicts.find(rows, error):
            remaining = rows.without(conflicts)
            result = Result(refusals=list(conflicts.values()))
            return result + self._bisect(RowStream([remaining])) if remaining else result
        middle = len(rows) // 2
        first_result = self._bisect(RowStream([rows.part(0, middle)]))
        return first_result + self._bisect(RowStream([rows.part(middle)]))

    def _retry_conflicts(self, result: Result) -> Result:
        """Retry commands that conflicted with a neighbour, after all others are applied.

        Each pass reverses the order, so a chain (each key takes the value that the next key gives
        up) is resolved in two passes, whichever end comes first.
        """
        counts, refusals, tries = result.counts, result.refusals, 0
        if not any(refusal.conflict for refusal in refusals):
            return result
        while tries < _CONFLICT_TRIES:
            refusals = self._mark_hopeless(refusals)
            conflicts = [refusal for refusal in reversed(refusals) if refusal.conflict]
            final = [refusal for refusal in refusals if not refusal.conflict]
            unresolved: list[Refusal] = []
            for refusal in conflicts:
                retried = self._bisect(RowStream([self._encode_again([refusal])]))
                counts += retried.counts
                unresolved += retried.refusals
            tries += len(conflicts)
            refusals = [*final, *unresolved]
            if len(unresolved) == len(conflicts):  # no progress, or no conflict is left
                break
        return Result(counts) + self._swap(refusals)

    def _mark_hopeless(self, refusals: Sequence[Refusal]) -> list[Refusal]:
        """Mark refusals that no other refused command can resolve as final."""
        conflicts = [refusal for refusal in refusals if refusal.conflict]
        rows = self._encode_again(conflicts)
        by_constraint = {
            refusal.conflict.diag.constraint_name: refusal.conflict
            for refusal in conflicts
            if refusal.conflict
        }
        final = {
            refusal.command.id: replace(refusal, conflict=None)
            for error in by_constraint.values()
            for refusal in self._conflicts.find_hopeless(rows, error).values()
        }
        return [final.get(refusal.command.id, refusal) for refusal in refusals]

    def _swap(self, refusals: Sequence[Refusal]) -> Result:
        """Apply commands that block each other in a ring, such as two keys that swap a value.

        Deletes the rows that they replace first. If the ring still fails, all changes are undone.
        """
        ring = [refusal for refusal in refusals if refusal.conflict]
        if len(ring) < 2:  # noqa: PLR2004 - a ring has at least two
            return Result(refusals=refusals)
        self._stage.clear()
        try:
            with self._connection.transaction():
                result = self._apply_staged(RowStream([self._encode_again(ring)]), replaces=True)
        except psycopg.Error as exc:
            if not is_data_fault(exc):
                raise
            return Result(refusals=refusals)
        return Result(refusals=[refusal for refusal in refusals if not refusal.conflict]) + result

    def _encode_again(self, refusals: Sequence[Refusal]) -> Rows:
        """The rows of commands that had a row before."""
        return self._encoder.encode([refusal.command for refusal in refusals]).rows

    def _apply_staged(self, stream: RowStream, *, replaces: bool = False) -> Result:
        """Stage rows, and apply them by statements for all rows.

        Args:
            stream: the rows.
            replaces: first delete the rows that puts and creates replace.
        """
        run, sql = self._connection.execute, self._table.sql
        refusals = self._stage.fill(stream)
        is_delete = Counter(
            command.op == "delete" for rows in stream.sent for command in rows.commands
        )
        is_delete.subtract(refusal.command.op == "delete" for refusal in refusals)
        deletes, puts = is_delete[True], is_delete[False]
        if replaces:
            run(sql.delete_replaced)
        deleted = 0
        if deletes:
            run(sql.delete_rows)
            deleted = run(sql.bury).rowcount
        upserted = self._upsert() if puts else 0
        unchanged = self._count_unchanged(puts, upserted, sql.count_rows_at_version)
        unchanged += self._count_unchanged(deletes, deleted, sql.count_tombstones_at_version)
        applied = upserted + deleted
        superseded = puts + deletes - applied - unchanged
        return Result(Counts(applied, superseded, duplicates=unchanged), refusals)

    def _upsert(self) -> int:
        # Only chunks with the exclusive lock make tombstones, so the result holds until the commit.
        buried = self._connection.execute(
            "SELECT FROM forebay.tombstones WHERE resource = %s LIMIT 1", [self._spec.path]
        ).fetchone()
        sql = self._table.sql
        if buried is None:
            return self._connection.execute(sql.upsert_unburied).rowcount
        upserted = self._connection.execute(sql.upsert).rowcount
        self._connection.execute(sql.unbury)
        return upserted

    def _count_unchanged(self, total: int, changed_rows: int, count: psycopg.sql.Composed) -> int:
        """How many of the commands without a change were in the table before, by their ids."""
        if changed_rows == total:
            return 0
        row = self._connection.execute(count).fetchone()
        return int(row[0]) - changed_rows if row else 0
