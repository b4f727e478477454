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
from dataclasses import dataclass, field
from typing import TypeAlias

from forebay.apply.fold import Folded, Target
from forebay.apply.habits import Habits
from forebay.apply.ledger import OvertakenError
from forebay.apply.outcome import Counts, Source
from forebay.apply.prepare import Contest, Prepared, in_order
from forebay.apply.rows import unfit_keys
from forebay.apply.staging import Refusal
from forebay.apply.table import TableApplier
from forebay.archive.lines import InvalidLine
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.db.locks import lock_for_chunk, lock_resources
from forebay.decisions.log import DecisionLog
from forebay.decisions.refusals import Undecided
from forebay.decisions.rejections import Rejection, find_rejected, line_id
from forebay.errors import BodyError
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

Unfit: TypeAlias = Sequence[tuple[Command, BodyError]]


@dataclass(slots=True)
class Candidates:
    """The candidates of a chunk: lines that could not be applied, and are not decided yet."""

    #: Commands of declared resources that Postgres or the declaration refused, by resource and key.
    refused: dict[Target, Refusal] = field(default_factory=dict)
    #: Commands that can't be prepared, each once, as they were archived.
    unfit: list[tuple[Command, BodyError]] = field(default_factory=list)
    bad_lines: list[InvalidLine] = field(default_factory=list)
    #: Ids of the chunk's commands that were rejected before; `Applied.counts` counts them.
    known: Collection[str] = ()

    def __bool__(self) -> bool:
        return bool(self.refused or self.unfit or self.bad_lines)

    def concerned(self, chunk: Prepared) -> list[Command]:
        """All commands of keys with a refused winner, without commands rejected before."""
        return [
            command
            for command in chunk.commands
            if (command.resource, command.key) in self.refused and command.id not in self.known
        ]

    def undecided(self, chunk: Prepared) -> Iterator[Undecided]:
        """Every line without a decision, with the reason."""
        for command in self.concerned(chunk):
            refusal = self.refused[command.resource, command.key]
            archived = chunk.archived.get(command.id, command)
            if refusal.command.id == command.id:
                yield Undecided(archived, refusal.code, refusal.detail, refusal.sqlstate)
            else:
                detail = f"depends on {refusal.command.id}: {refusal.detail}"
                yield Undecided(archived, refusal.code, detail, refusal.sqlstate)
        for command, exc in self.unfit:
            yield Undecided(command, exc.code, str(exc))
        for line in self.bad_lines:
            yield Undecided(line, line.code, line.detail)


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of a chunk's first transaction."""

    #: Counts all lines except candidates and held commands.
    counts: Counts
    candidates: Candidates
    #: Why commands are held, if any are.
    held: str | None


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

    def apply(self, chunk: Prepared) -> Applied:
        """Apply the commands that need no decision.

        Raises:
            UnsettledError: roll back, settle the decision log, and try again.
            psycopg.Error: not the data's fault; the transaction must be rolled back.
        """
        self._connection.execute(_BEGIN)
        contest = chunk.contest
        lock_for_chunk(self._connection, contest.winners, contest.deleting)
        rejected_ids = self._find_rejected(chunk.ids)
        if rejected_ids:
            contest = Contest.among(
                [command for command in chunk.commands if command.id not in rejected_ids]
            )
        duplicates = (
            sum(command.id in rejected_ids for command in chunk.commands) if rejected_ids else 0
        )
        counts = Counts(duplicates=duplicates, skipped=chunk.skipped)
        candidates = Candidates(known=rejected_ids)
        for applier, winners in self._group_by_table(contest.winners):
            table_counts, refusals = applier.apply(winners)
            counts += table_counts
            for refusal in refusals:
                target = refusal.command.resource, refusal.command.key
                candidates.refused[target] = refusal
        counts += _count_losers(contest.folded, chunk, rejected_ids, candidates.refused)
        held = chunk.held
        if chunk.unfit:
            table_counts, candidates.unfit, missing = self._examine_unfit(chunk.unfit, rejected_ids)
            counts, held = counts + table_counts, held or missing
        duplicate_lines, candidates.bad_lines = self._examine_lines(chunk)
        return Applied(counts + Counts(duplicates=duplicate_lines), candidates, held)

    def decide(
        self, chunk: Prepared, candidates: Candidates, *, alone: bool = True
    ) -> tuple[Counts, list[Rejection]]:
        """Try candidates again under exclusive locks, and reject those that fail.

        Args:
            chunk: the whole chunk.
            candidates: from `apply`.
            alone: whether to take exclusive locks; False in a rehearsal, which must not block
                other transactions.

        Returns:
            The counts of the candidates' lines, and the new rejections, which the caller records.

        Raises:
            OvertakenError: a migration has created the table of an undeclared resource since.
            psycopg.Error: as `apply`.
        """
        self._connection.execute(_BEGIN)
        paths = {path for path, _ in candidates.refused}
        # Undeclared resources too: a release that declares them may be applying the command.
        unfit_paths = {command.resource for command, _ in candidates.unfit}
        paths |= set(sorted(filter(_RESOURCE_PATH.fullmatch, unfit_paths))[:_MAX_LOCKS])
        if alone:
            lock_resources(self._connection, paths, exclusive=True)
        rejected_ids = set(find_rejected(self._connection, chunk.ids)) if chunk.ids else set()
        decided = _Decided(self._source.object)
        commands = candidates.concerned(chunk)
        contest = Contest.among([entry for entry in commands if entry.id not in rejected_ids])
        counts = Counts(
            superseded=contest.folded.superseded,
            duplicates=contest.folded.duplicates
            + sum(entry.id in rejected_ids for entry in commands),
        )
        for applier, winners in self._group_by_table(contest.winners, anew=True):
            counts += self._apply_with_runners_up(
                applier, winners, contest.folded, chunk.archived, decided
            )
        if candidates.unfit:
            unfit_counts, unfit, held = self._examine_unfit(candidates.unfit, rejected_ids)
            if held is not None and alone:  # a migration has created the table since
                raise OvertakenError
            counts += unfit_counts
            for command, exc in unfit:
                decided.add(Undecided(command, exc.code, str(exc)))
        duplicate_lines, bad_lines = self._examine_lines(chunk, candidates.bad_lines)
        for line in bad_lines:
            decided.add(Undecided(line, line.code, line.detail))
        rejections = decided.rejections
        return counts + Counts(duplicates=duplicate_lines, rejected=len(rejections)), rejections

    def _find_rejected(self, ids: Sequence[str]) -> Collection[str]:
        """The ids that were rejected before; `ids` ascend."""
        first_id, last_id = (ids[0], ids[-1]) if ids else (None, None)
        # The common case: no rejection in this range of ids, so the ids need not be sent.
        if not self._log.check(first_id, last_id):
            return ()
        return find_rejected(self._connection, ids)

    def _group_by_table(
        self, winners: Mapping[str, list[Command]], *, anew: bool = False
    ) -> Iterator[tuple[TableApplier, list[Command]]]:
        """Winners by table, each after the tables that it refers to by enforced references."""
        for path in sorted(winners, key=self._measure_depth):
            applier = self._get_applier(path)
            applier.begin(anew=anew)
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
        self,
        applier: TableApplier,
        winners: list[Command],
        folded: Folded,
        archived: Mapping[str, Command],
        decided: _Decided,
    ) -> Counts:
        """Apply winners; replace each rejected winner by the next best command of its key."""
        counts = Counts()
        refused_ids: set[str] = set()
        while winners:
            table_counts, refusals = applier.apply(winners)
            counts += table_counts
            refused_ids |= {refusal.command.id for refusal in refusals}
            winners = []
            for refusal in refusals:
                command = archived.get(refusal.command.id, refusal.command)
                decided.add(Undecided(command, refusal.code, refusal.detail, refusal.sqlstate))
                runner_up = folded.runner_up(refusal.command, refused_ids)
                if runner_up is not None:
                    winners.append(runner_up)
            winners.sort(key=in_order)
            # The fold counted these as superseded.
            counts += Counts(superseded=-len(winners))
        return counts

    def _examine_unfit(
        self, unfit: Unfit, rejected_ids: Collection[str]
    ) -> tuple[Counts, list[tuple[Command, BodyError]], str | None]:
        """Examine commands that can't be prepared.

        Returns:
            Counts of the commands that need no decision, the commands that do, and why some are
            held for another release.
        """
        counts, held = Counts(), None
        by_path: dict[str, dict[str, tuple[Command, BodyError]]] = defaultdict(dict)
        for command, exc in unfit:
            if command.id in rejected_ids or command.id in by_path[command.resource]:
                counts += Counts(duplicates=1)
            else:
                by_path[command.resource][command.id] = (command, exc)
        waiting = self._find_undeclared_tables(by_path.keys() - self._resources.keys())
        undecided: list[tuple[Command, BodyError]] = []
        for path, of_path in by_path.items():
            if path in waiting or (self._source.replay and path not in self._resources and of_path):
                held = held or _describe_unknown_resource(next(iter(of_path.values()))[0])
            elif path in self._resources:
                resource_counts, unresolved = self._examine_known_resource(
                    self._resources[path], of_path
                )
                counts += resource_counts
                undecided += unresolved
            else:
                undecided += of_path.values()
        return counts, undecided, held

    def _examine_known_resource(
        self, spec: ResourceSpec, unfit: Mapping[str, tuple[Command, BodyError]]
    ) -> tuple[Counts, list[tuple[Command, BodyError]]]:
        """Count commands that the table has or that lose to it, and return the others."""
        commands = [command for command, _ in unfit.values()]
        unstorable_ids = {
            command.id
            for command in commands
            if command.body is None or not spec.fits_key(command.key)
        } | {command.id for command, _ in unfit_keys(spec, commands)}
        comparable = [command for command in commands if command.id not in unstorable_ids]
        if not comparable:
            return Counts(), list(unfit.values())
        counts, unbeaten_ids = self._get_applier(spec.path).without_beaten(comparable)
        return counts, [
            unfit[command_id]
            for command_id in unfit
            if command_id in unstorable_ids or command_id in unbeaten_ids
        ]

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

    def _examine_lines(
        self, chunk: Prepared, lines: Iterable[InvalidLine] | None = None
    ) -> tuple[int, list[InvalidLine]]:
        """How many invalid lines were rejected before, and the other invalid lines."""
        by_id = {
            line_id(self._source.object, line): line
            for line in (chunk.bad_lines if lines is None else lines)
        }
        rejected_ids = find_rejected(self._connection, list(by_id)) if by_id else set()
        return len(rejected_ids), [
            line for rejection_id, line in by_id.items() if rejection_id not in rejected_ids
        ]


class _Decided:
    """The rejections of a decision, all with the same time."""

    def __init__(self, object_key: str) -> None:
        self.rejections: list[Rejection] = []
        self._object = object_key
        # In microseconds, like Postgres and the archive.
        self._at = dt.datetime.now(dt.UTC)

    def add(self, undecided: Undecided) -> None:
        """Add the rejection of a line."""
        self.rejections.append(Rejection.of(undecided, self._object, self._at))


def _count_losers(
    folded: Folded,
    chunk: Prepared,
    rejected_ids: Collection[str],
    refusals: Mapping[Target, Refusal],
) -> Counts:
    """Counts of the commands that lost within the chunk, without those of refused keys."""
    if refusals:
        remaining = [
            command
            for command in chunk.commands
            if command.id not in rejected_ids and (command.resource, command.key) not in refusals
        ]
        folded = Contest.among(remaining).folded
    return Counts(superseded=folded.superseded, duplicates=folded.duplicates)


def _describe_unknown_resource(command: Command) -> str:
    return (
        f"command {command.id} is of the resource {command.resource[:80]!a}, which this release "
        "does not declare; apply it with the release that does"
    )
