"""Applies one chunk: first all commands that need no decision, then the candidates.

`ChunkApplier.apply` runs in a transaction under shared locks. A command that fails there is only a
candidate, because another consumer may have the same command. `ChunkApplier.decide` tries the
candidates again in a second transaction, under the exclusive locks of their resources, and rejects
the commands that fail there.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from forebay.apply.prepare import Chunk, Folded, Target, fold, in_order
from forebay.apply.results import Counts, OvertakenError, Result, Source
from forebay.apply.table import Habits, TableApplier
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.db.locks import lock_for_chunk, lock_resources
from forebay.decisions.log import DecisionLog
from forebay.decisions.refusals import Refusal
from forebay.decisions.rejections import Rejection, find_rejected, line_id
from forebay.resource.spec import ResourceSpec

# A deferred constraint would fail at the commit, where the guilty row is unknown. Apply needs only
# the rows of a chunk's keys, so a sequential scan of a large table is never right; the planner
# could choose one, because it lacks statistics of the staging table.
_BEGIN = "SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL enable_seqscan = off"
#: Locks of undeclared resources in one transaction: the server has room for some thousand locks,
#: and a hostile chunk may name ten thousand resources.
_MAX_LOCKS = 500
# As in ResourceSpec; other paths have no table.
_RESOURCE_PATH = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of a chunk: lines that could not be applied, and are not decided yet."""

    #: Commands of declared resources that Postgres or the declaration refused, by resource and key.
    refused: Mapping[Target, Refusal]
    #: Commands that can't be prepared, each once, as they were archived.
    unfit: Sequence[Refusal]
    invalid_lines: Sequence[Refusal]
    #: Ids of the chunk's commands that were rejected before; `Applied.result` counts them.
    rejected_ids: Collection[str]

    def __bool__(self) -> bool:
        return bool(self.refused or self.unfit or self.invalid_lines)

    def find_concerned(self, chunk: Chunk) -> list[Command]:
        """All commands of keys with a refused winner, without commands rejected before."""
        return [
            command
            for command in chunk.commands
            if (command.resource, command.key) in self.refused
            and command.id not in self.rejected_ids
        ]

    def find_undecided(self, chunk: Chunk) -> Iterator[Refusal]:
        """Every line without a decision, with the reason."""
        for command in self.find_concerned(chunk):
            cause = self.refused[command.resource, command.key]
            detail = cause.detail
            if cause.command.id != command.id:
                detail = f"depends on {cause.command.id}: {detail}"
            yield Refusal(chunk.as_archived(command), cause.code, detail, cause.sqlstate)
        yield from self.unfit
        yield from self.invalid_lines


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of a chunk's first transaction."""

    #: Of all lines except candidates.
    result: Result
    candidates: Candidates


@dataclass(frozen=True, slots=True)
class Decided:
    """The decisions about candidates."""

    #: The candidates' lines.
    counts: Counts
    #: All with the same time.
    rejections: Sequence[Rejection]


class ChunkApplier:
    """Applies chunks of a source over a connection."""

    def __init__(
        self,
        connection: Connection,
        source: Source,
        resources: Mapping[str, ResourceSpec],
        log: DecisionLog,
        habits: Habits,
    ) -> None:
        self._connection = connection
        self._source = source
        self._habits = habits
        self._resources = resources
        self._log = log
        self._tables: dict[str, TableApplier] = {}

    def apply(self, chunk: Chunk) -> Applied:
        """Apply the commands that need no decision.

        Raises:
            PendingEntryError: roll back, let the decision log catch up, and try again.
            psycopg.Error: not the data's fault; the transaction must be rolled back.
        """
        self._connection.execute(_BEGIN)
        folded, duplicates = chunk.folded, 0
        lock_for_chunk(self._connection, folded.winners, folded.deleting)
        rejected_ids = self._find_rejected(chunk.ids)
        if rejected_ids:
            remaining = [c for c in chunk.commands if c.id not in rejected_ids]
            folded, duplicates = fold(remaining), len(chunk.commands) - len(remaining)
        result = Result(Counts(duplicates=duplicates, skipped=chunk.skipped))
        for applier, winners in self._group_by_table(folded.winners):
            result += applier.apply(winners)
        refused = {(r.command.resource, r.command.key): r for r in result.refusals}
        losers = _count_losers(folded, chunk, rejected_ids, refused)
        unfit = self._examine_unfit(chunk.unfit, rejected_ids)
        lines = self._examine_lines(chunk.invalid_lines)
        candidates = Candidates(refused, unfit.refusals, lines.refusals, rejected_ids)
        counts = result.counts + losers + unfit.counts + lines.counts
        return Applied(Result(counts, held=chunk.held or unfit.held), candidates)

    def decide(self, chunk: Chunk, candidates: Candidates, *, is_alone: bool = True) -> Decided:
        """Try candidates again under exclusive locks, and reject those that fail.

        Args:
            chunk: the whole chunk.
            candidates: from `apply`.
            is_alone: whether to take exclusive locks; False in a rehearsal, which must not block
                other transactions.

        Returns:
            The decisions; the caller records the rejections.

        Raises:
            OvertakenError: a migration has created the table of an undeclared resource since.
            psycopg.Error: as `apply`.
        """
        self._connection.execute(_BEGIN)
        if is_alone:
            self._lock_alone(candidates)
        rejected_ids = set(find_rejected(self._connection, chunk.ids)) if chunk.ids else set()
        concerned = candidates.find_concerned(chunk)
        contenders = [command for command in concerned if command.id not in rejected_ids]
        folded = fold(contenders)
        repeated = len(concerned) - len(contenders) + folded.duplicates
        result = Result(Counts(superseded=folded.superseded, duplicates=repeated))
        for applier, winners in self._group_by_table(folded.winners, recreate=True):
            result += self._apply_with_runners_up(applier, winners, folded)
        unfit = self._examine_unfit(candidates.unfit, rejected_ids)
        if unfit.held is not None and is_alone:  # a migration has created the table since
            raise OvertakenError
        result += unfit
        result += self._examine_lines(candidates.invalid_lines)
        return self._reject(chunk, result)

    def _reject(self, chunk: Chunk, result: Result) -> Decided:
        # In microseconds, like Postgres and the archive.
        now = dt.datetime.now(dt.UTC)
        rejections = [
            Rejection.of(refusal, chunk.as_archived(refusal.entry), self._source.object, now)
            for refusal in result.refusals
        ]
        return Decided(result.counts + Counts(rejected=len(rejections)), rejections)

    def _lock_alone(self, candidates: Candidates) -> None:
        """Lock the candidates' resources exclusively, undeclared resources too.

        A release that declares them may be applying the command.
        """
        paths = {path for path, _ in candidates.refused}
        unfit_paths = {refusal.command.resource for refusal in candidates.unfit}
        paths |= set(sorted(filter(_RESOURCE_PATH.fullmatch, unfit_paths))[:_MAX_LOCKS])
        lock_resources(self._connection, paths, exclusive=True)

    def _find_rejected(self, ids: Sequence[str]) -> Collection[str]:
        """The ids that were rejected before; `ids` ascend."""
        first_id, last_id = (ids[0], ids[-1]) if ids else (None, None)
        # The common case: no rejection in this range of ids, so the ids need not be sent.
        if not self._log.check(first_id, last_id):
            return ()
        return find_rejected(self._connection, ids)

    def _group_by_table(
        self, winners: Mapping[str, list[Command]], *, recreate: bool = False
    ) -> Iterator[tuple[TableApplier, list[Command]]]:
        """Winners by table, each after the tables that it refers to by enforced references."""
        for path in sorted(winners, key=self._measure_depth):
            applier = self._get_applier(path)
            applier.begin(recreate=recreate)
            yield applier, winners[path]

    def _measure_depth(self, path: str, path_chain: frozenset[str] = frozenset()) -> int:
        """The length of the longest chain of enforced references that starts at a resource."""
        targets = {
            field.references.path
            for field in self._resources[path].fields
            if field.references is not None and field.references.enforced
        }
        path_chain |= {path}  # references may form a cycle
        return max(
            (1 + self._measure_depth(target, path_chain) for target in targets - path_chain),
            default=0,
        )

    def _get_applier(self, path: str) -> TableApplier:
        if path not in self._tables:
            spec = self._resources[path]
            self._tables[path] = TableApplier(self._connection, spec, self._habits)
        return self._tables[path]

    def _apply_with_runners_up(
        self, applier: TableApplier, winners: list[Command], folded: Folded
    ) -> Result:
        """Apply winners; replace each refused winner by the next best command of its key."""
        total = Result()
        refused_ids: set[str] = set()
        while winners:
            result = applier.apply(winners)
            refused_ids |= {refusal.command.id for refusal in result.refusals}
            runners_up = [folded.runner_up(r.command, refused_ids) for r in result.refusals]
            winners = sorted(filter(None, runners_up), key=in_order)
            # The fold counted these as superseded.
            total += result + Result(Counts(superseded=-len(winners)))
        return total

    def _examine_unfit(self, unfit: Sequence[Refusal], rejected_ids: Collection[str]) -> Result:
        """Examine commands that can't be prepared: refuse those that need a decision."""
        if not unfit:
            return Result()
        result = Result()
        by_path: dict[str, dict[str, Refusal]] = defaultdict(dict)
        for refusal in unfit:
            command = refusal.command
            if command.id in rejected_ids or command.id in by_path[command.resource]:
                result += Result(Counts(duplicates=1))
            else:
                by_path[command.resource][command.id] = refusal
        held_paths = self._find_undeclared_tables(by_path.keys() - self._resources.keys())
        for path, refusals_by_id in by_path.items():
            refusals = list(refusals_by_id.values())
            if path in self._resources:
                result += self._examine_known_resource(self._resources[path], refusals)
            elif path in held_paths or self._source.replay:
                result += Result(held=_describe_unknown_resource(refusals[0].command))
            else:
                result += Result(refusals=refusals)
        return result

    def _examine_known_resource(self, spec: ResourceSpec, unfit: Sequence[Refusal]) -> Result:
        """Count commands that the table has or that lose to it, and refuse the others."""
        applier = self._get_applier(spec.path)
        commands = [refusal.command for refusal in unfit]
        unstorable_ids = {
            command.id
            for command in commands
            if command.body is None or not spec.fits_key(command.key)
        } | {refusal.command.id for refusal in applier.refuse_keys(commands)}
        comparable = [refusal for refusal in unfit if refusal.command.id not in unstorable_ids]
        result = applier.drop_beaten(comparable)
        unbeaten_ids = unstorable_ids | {refusal.command.id for refusal in result.refusals}
        return Result(
            result.counts, [refusal for refusal in unfit if refusal.command.id in unbeaten_ids]
        )

    def _find_undeclared_tables(self, paths: Iterable[str]) -> set[str]:
        """Undeclared resources that have a table in the database: another release declares them."""
        tables = {path: path.replace("-", "_") for path in paths if _RESOURCE_PATH.fullmatch(path)}
        if not tables:
            return set()
        rows = self._connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND relname = ANY(%s)",
            [list(tables.values())],
        ).fetchall()
        existing = {name for (name,) in rows}
        return {path for path, table in tables.items() if table in existing}

    def _examine_lines(self, refusals: Sequence[Refusal]) -> Result:
        """Count invalid lines that were rejected before, and refuse the others."""
        if not refusals:
            return Result()
        by_id = {line_id(self._source.object, refusal.line): refusal for refusal in refusals}
        rejected_ids = find_rejected(self._connection, list(by_id))
        remaining = [refusal for id_, refusal in by_id.items() if id_ not in rejected_ids]
        return Result(Counts(duplicates=len(rejected_ids)), remaining)


def _count_losers(
    folded: Folded,
    chunk: Chunk,
    rejected_ids: Collection[str],
    refused: Mapping[Target, Refusal],
) -> Counts:
    """Counts of the commands that lost within the chunk, without those of refused keys."""
    if refused:
        folded = fold(
            [
                command
                for command in chunk.commands
                if command.id not in rejected_ids and (command.resource, command.key) not in refused
            ]
        )
    return Counts(superseded=folded.superseded, duplicates=folded.duplicates)


def _describe_unknown_resource(command: Command) -> str:
    return (
        f"command {command.id} is of the resource {command.resource[:80]!a}, which this release "
        "does not declare; apply it with the release that does"
    )
