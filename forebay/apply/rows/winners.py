"""Applies the winners of a resource.

Commands that the table already holds are compared by id only. New rows are copied straight into the
table. Rows that replace others, and deletes, are staged and applied by set-based statements. A
table that usually gets new keys only is first probed for tombstones alone; its rows are compared
only if it does not accept all new rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import psycopg

from forebay.apply.results import Counts, Result
from forebay.apply.rows.conflicts import find_claimants, find_conflicts, find_hopeless
from forebay.apply.rows.copying import insert_new, stage_rows
from forebay.apply.rows.encoding import Rows, RowStream
from forebay.apply.rows.table import Table
from forebay.command import Command
from forebay.db.faults import is_data_fault, needs_newer_code
from forebay.decisions.refusals import Refusal

# Commands in conflict can take as many passes as there are commands. Hours of that would delay all
# other commands, so conflicts that remain after so many single tries (about a minute) are rejected.
CONFLICT_TRIES = 20_000


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


def apply_winners(table: Table, winners: Sequence[Command], habits: Habits) -> Result:
    """Apply commands of different keys to their table.

    Raises:
        psycopg.Error: not the data's fault.
    """
    deletes = [command for command in winners if command.op == "delete"]
    puts = [command for command in winners if command.op != "delete"]
    # Deletes first: they may free values of unique columns.
    result = _stage_all(table, deletes) if deletes else Result()
    if puts:
        result += _apply_puts(table, puts, habits)
    if any(refusal.conflict for refusal in result.refusals):
        return Result(result.counts) + _retry_conflicts(table, result.refusals)
    return result


def replace_rows(table: Table, winners: Sequence[Command]) -> Result:
    """Apply commands that are known to win at their keys, one for each key.

    Raises:
        psycopg.Error: not the data's fault.
    """
    deletes = [command for command in winners if command.op == "delete"]
    puts = [command for command in winners if command.op != "delete"]
    result = Result()
    for commands in filter(None, (deletes, puts)):
        result += _stage_all(table, commands)
    errors = {refusal.command.id: refusal.conflict for refusal in result.refusals}
    if not any(errors.values()):
        return result
    retried = _retry_conflicts(table, result.refusals)
    # Patches of other keys may yet resolve a conflict that no put or delete does.
    refusals = [r._replace(conflict=errors.get(r.command.id)) for r in retried.refusals]
    return Result(result.counts + retried.counts, refusals)


def _apply_puts(table: Table, puts: Sequence[Command], habits: Habits) -> Result:
    """Apply puts and creates."""
    if not habits.is_used_to_new_keys(table.spec.path) or table.are_buried(puts):
        return _probe_and_apply(table, puts, habits)
    inserted = insert_new(table, puts)
    result = Result(inserted.counts) + table.drop_beaten(inserted.refusals)
    if inserted.deferred:
        result += _probe_and_apply(table, inserted.deferred, habits)
        deferred_ids = {command.id for command in inserted.deferred}
        result = _reclaim(table, result, [put for put in puts if put.id not in deferred_ids])
    return result


def _probe_and_apply(table: Table, puts: Sequence[Command], habits: Habits) -> Result:
    """Probe, then apply; a command that loses to the table is compared by its id only."""
    probed = table.probe(puts)
    habits.note(table.spec.path, all_new=len(probed.fresh) == len(puts))
    inserted = insert_new(table, probed.fresh) if probed.fresh else Result()
    result = Result(probed.counts + inserted.counts, inserted.refusals)
    for commands in filter(None, (probed.contested, inserted.deferred)):
        result += _stage_all(table, commands)
    return _reclaim(table, result, probed.fresh)


def _reclaim(table: Table, result: Result, fresh: Sequence[Command]) -> Result:
    """Give unique values that new rows have claimed to the older commands that were refused.

    New rows are inserted first, but the claims of a chunk are to be in the order of command ids.
    """
    conflicts = [
        refusal
        for refusal in result.refusals
        if isinstance(refusal.conflict, psycopg.errors.UniqueViolation)
    ]
    if not conflicts:
        return result
    refused_ids = {refusal.command.id for refusal in result.refusals}
    by_key = {str(command.key): command for command in fresh if command.id not in refused_ids}
    rows = _encode_again(table, conflicts)
    late_claims = {
        key: by_key[key]
        for error in select_error_per_constraint(conflicts)
        for place, key in find_claimants(table, rows, error, by_key.keys())
        if by_key[key].id > rows.commands[place].id
    }
    if not late_claims:
        return result
    table.delete_new(list(late_claims.values()))
    others = [refusal for refusal in result.refusals if refusal not in conflicts]
    counts = result.counts - Counts(applied=len(late_claims))
    commands = [*(refusal.command for refusal in conflicts), *late_claims.values()]
    return Result(counts, others, result.deferred) + _stage_all(table, commands)


def select_error_per_constraint(conflicts: Sequence[Refusal]) -> Collection[psycopg.Error]:
    """An error of each constraint that has refused a row."""
    return {
        refusal.conflict.diag.constraint_name: refusal.conflict
        for refusal in conflicts
        if refusal.conflict
    }.values()


def _stage_all(table: Table, commands: Sequence[Command]) -> Result:
    refusals: list[Refusal] = []
    result = _bisect(table, table.encoder.stream(commands, refusals))
    return result + Result(refusals=refusals)


def _bisect(table: Table, stream: RowStream) -> Result:
    """Apply all rows together; if that fails on the data, apply them without the guilty rows.

    If the guilty rows can't be identified, try each half separately.
    """
    table.clear_stage()
    try:
        with table.connection.transaction():
            return _apply_staged(table, stream)
    except psycopg.Error as exc:
        if not is_data_fault(exc) or needs_newer_code(exc, table.spec):
            raise
        rows = stream.collect()
        if not rows:  # an error without data
            raise
        if len(rows) == 1:
            return Result(refusals=[Refusal.of_row(rows.commands[0], exc)])
        error = exc
    if conflicts := find_conflicts(table, rows, error):
        parts = [rows.without(conflicts)]
    else:
        middle = len(rows) // 2
        parts = [rows.part(0, middle), rows.part(middle)]
    result = Result(refusals=list(conflicts.values()))
    for part in filter(None, parts):
        result += _bisect(table, RowStream([part]))
    return result


def _retry_conflicts(table: Table, refusals: Sequence[Refusal]) -> Result:
    """Retry commands that conflicted with a neighbour, after all others are applied.

    Each pass reverses the order, so a chain (each key takes the value that the next key gives up)
    is resolved in two passes, whichever end comes first.
    """
    counts, tries = Counts(), 0
    while tries < CONFLICT_TRIES:
        refusals = _mark_hopeless(table, refusals)
        conflicts = [refusal for refusal in reversed(refusals) if refusal.conflict]
        unresolved: list[Refusal] = []
        for refusal in conflicts:
            retried = _bisect(table, RowStream([_encode_again(table, [refusal])]))
            counts += retried.counts
            unresolved += retried.refusals
        tries += len(conflicts)
        refusals = [*(refusal for refusal in refusals if not refusal.conflict), *unresolved]
        if len(unresolved) == len(conflicts):  # no progress, or no conflict is left
            break
    return Result(counts) + _swap(table, refusals)


def _mark_hopeless(table: Table, refusals: Sequence[Refusal]) -> list[Refusal]:
    """Mark refusals that no other refused command can resolve as final."""
    conflicts = [refusal for refusal in refusals if refusal.conflict]
    rows = _encode_again(table, conflicts)
    final = {
        refusal.command.id: refusal._replace(conflict=None)
        for error in select_error_per_constraint(conflicts)
        for refusal in find_hopeless(table, rows, error).values()
    }
    return [final.get(refusal.command.id, refusal) for refusal in refusals]


def _swap(table: Table, refusals: Sequence[Refusal]) -> Result:
    """Apply commands that block each other in a ring, such as two keys that swap a value.

    Deletes the rows that they replace first. If the ring still fails, all changes are undone.
    """
    ring = [refusal for refusal in refusals if refusal.conflict]
    if len(ring) < 2:  # noqa: PLR2004 - a ring has at least two
        return Result(refusals=refusals)
    table.clear_stage()
    try:
        with table.connection.transaction():
            stream = RowStream([_encode_again(table, ring)])
            result = _apply_staged(table, stream, replaces=True)
    except psycopg.Error as exc:
        if not is_data_fault(exc):
            raise
        return Result(refusals=refusals)
    return Result(refusals=[refusal for refusal in refusals if not refusal.conflict]) + result


def _encode_again(table: Table, refusals: Sequence[Refusal]) -> Rows:
    """The rows of commands that had a row before."""
    return table.encoder.encode([refusal.command for refusal in refusals]).rows


def _apply_staged(table: Table, stream: RowStream, *, replaces: bool = False) -> Result:
    """Stage rows, and apply them by statements for all rows.

    Args:
        table: their table.
        stream: the rows.
        replaces: first delete the rows that puts and creates replace.
    """
    run, sql = table.connection.execute, table.sql
    refusals = stage_rows(table, stream)
    is_delete = Counter(
        command.op == "delete" for rows in stream.sent_pieces for command in rows.commands
    )
    is_delete.subtract(refusal.command.op == "delete" for refusal in refusals)
    applied = unchanged = 0
    if replaces:
        run(sql.delete_replaced)
    if is_delete[True]:
        run(sql.delete_rows)
        applied += run(sql.bury).rowcount
    if is_delete[False]:
        applied += _upsert(table)
    staged = is_delete.total()
    if applied < staged:
        row = run(sql.count_at_version).fetchone()
        unchanged = int(row[0]) - applied if row else 0
    return Result(Counts(applied, staged - applied - unchanged, unchanged), refusals)


def _upsert(table: Table) -> int:
    """Upsert the staged rows that no tombstone buries; return the number of changed rows."""
    run, sql = table.connection.execute, table.sql
    # Only chunks with the exclusive lock make tombstones, so the result holds until the commit.
    if run(sql.find_any_tombstone).fetchone() is None:
        return run(sql.upsert_unburied).rowcount
    upserted = run(sql.upsert).rowcount
    run(sql.unbury)
    return upserted
