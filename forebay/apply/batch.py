"""Applies one chunk inside the caller's transaction, isolating the commands that can't apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from forebay.apply.fold import Folded
from forebay.apply.habits import Habits
from forebay.apply.outcome import Counts, Rejection, Source
from forebay.apply.prepare import Contest, Prepared, in_order
from forebay.apply.rejections import RejectionBook
from forebay.apply.table import TableApplier
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.resource.spec import ResourceSpec

# A deferred constraint would fail at the commit, where nobody can tell who is guilty. And of a
# table, however large, apply wants only the rows of a chunk's keys: the planner, which knows
# a staging table badly, must not come to think that reading all of it would be as quick.
_BEGIN = "SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL enable_seqscan = off"


class ChunkApplier:
    """Applies chunks of one source over one connection."""

    def __init__(
        self,
        connection: Connection,
        source: Source,
        resources: Mapping[str, ResourceSpec],
        archive_rejections: Callable[[Sequence[Rejection]], None],
        habits: Habits,
    ) -> None:
        self._connection = connection
        self._habits = habits
        self._resources = resources
        self._book = RejectionBook(connection, source, archive_rejections)
        self._tables: dict[str, TableApplier] = {}

    def apply(self, chunk: Prepared) -> Counts:
        """Applies a chunk; what became of its lines.

        Raises:
            psycopg.Error: not the data's fault; the transaction must be rolled back.
        """
        self._connection.execute(_BEGIN)
        self._book.open()
        for line in chunk.bad_lines:
            self._book.reject_line(line)
        for command, exc in chunk.unfit:
            self._book.reject(command, exc.code, str(exc))
        contest = chunk.contest
        known = self._book.known([command.id for command in chunk.commands])
        if known:
            contest = Contest.among([one for one in chunk.commands if one.id not in known])
        # A known one may be in the chunk more than once.
        known_lines = sum(one.id in known for one in chunk.commands) if known else 0
        counts = Counts()
        for applier, winners in self._by_table(contest):
            counts += self._apply_with_runners_up(applier, winners, contest.folded, chunk.archived)
        new, seen_before = self._book.close()
        return counts + Counts(
            superseded=contest.folded.superseded,
            duplicates=contest.folded.duplicates + known_lines + seen_before,
            rejected=new,
        )

    def _by_table(self, contest: Contest) -> list[tuple[TableApplier, list[Command]]]:
        """Winners by table: all locks are taken first, in one order for all consumers.

        The tables then come in the order of their enforced references, what is referred to first.
        """
        winners = contest.winners
        appliers = sorted((self._table(path) for path in winners), key=lambda found: found.lock_id)
        for applier in appliers:
            applier.lock(exclusive=applier.spec.path in contest.deleting)
        appliers.sort(key=lambda found: self._depth(found.spec.path))
        return [(applier, winners[applier.spec.path]) for applier in appliers]

    def _depth(self, path: str, seen: frozenset[str] = frozenset()) -> int:
        """How many enforced references lead on from a resource, one behind the other."""
        targets = {
            field.references.path
            for field in self._resources[path].fields
            if field.references is not None and field.references.enforced
        }
        seen |= {path}  # references may run in a circle
        return max((1 + self._depth(target, seen) for target in targets - seen), default=0)

    def _table(self, path: str) -> TableApplier:
        if path not in self._tables:
            spec = self._resources[path]
            self._tables[path] = TableApplier(self._connection, spec, self._habits)
        return self._tables[path]

    def _apply_with_runners_up(
        self,
        applier: TableApplier,
        winners: list[Command],
        folded: Folded,
        archived: Mapping[str, Command],
    ) -> Counts:
        """A rejected winner's place goes to the next best command of its key, and so on."""
        counts = Counts()
        out: set[str] = set()
        while winners:
            done, refusals = applier.apply(winners)
            counts += done
            out |= {refusal.command.id for refusal in refusals}
            winners = []
            for refusal in refusals:
                found = archived.get(refusal.command.id, refusal.command)
                self._book.reject(found, refusal.code, refusal.detail, sqlstate=refusal.sqlstate)
                runner_up = folded.runner_up(refusal.command, out)
                if runner_up is not None:
                    winners.append(runner_up)
            winners.sort(key=in_order)
            # Which the fold has counted as superseded.
            counts += Counts(superseded=-len(winners))
        return counts
