"""Applies one chunk: first all commands that need no decision, then the candidates.

`ChunkApplier.apply_without_decisions` runs in a transaction under shared locks, except for
resources with deletes or edited keys. A command that fails there is only a candidate, because
another consumer may have the same command. `ChunkApplier.decide_candidates` tries the candidates
again in a second transaction, under the exclusive locks of their resources, and rejects the
commands that fail there.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from forebay.apply.edits.claims import Claim, find_rivals
from forebay.apply.edits.dependencies import Patience
from forebay.apply.edits.merging import drop_known, merge
from forebay.apply.prepare import Chunk, upcast
from forebay.apply.results import Counts, MergeResult, OvertakenError, PatchedError, Result, Source
from forebay.apply.rows.table import Table
from forebay.apply.rows.winners import Habits, apply_winners
from forebay.command import Command, Target
from forebay.db.connect import Connection
from forebay.db.locks import lock_for_chunk, lock_resources
from forebay.decided_commands import is_decided_command
from forebay.decisions.decision_log import DecisionLog
from forebay.decisions.effects import Effect, find_effects
from forebay.decisions.refusals import Refusal
from forebay.decisions.rejections import Rejection, derive_line_id, find_rejected
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec
from forebay.unmet import UNMET_CODES

# A deferred constraint would fail at the commit, where the guilty row is unknown. Apply needs only
# the rows of a chunk's keys, so a sequential scan of a large table is never right; the planner
# could choose one, because it lacks statistics of the staging table.
_BEGIN = "SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL enable_seqscan = off"
#: Locks of undeclared resources in one transaction: the server has room for some thousand locks,
#: and a hostile chunk may name ten thousand resources.
_MAX_LOCKS = 500
_NO_PATIENCE = Patience()
_HAS_EDITS = """
    SELECT path FROM unnest(%s::text[]) AS path
    WHERE EXISTS (SELECT FROM forebay.edits WHERE resource = path)
"""
# As in ResourceSpec; other paths have no table.
_RESOURCE_PATH = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """The result of a chunk's first transaction."""

    #: Of all lines except candidates.
    result: Result
    #: The lines that could not be applied, and have no decision yet; None without such lines.
    candidates: Chunk | None = None
    #: Why the winners among the candidates could not be applied.
    refusals: Sequence[Refusal] = ()


@dataclass(frozen=True, slots=True)
class DecisionResult:
    """The result of a chunk's second transaction."""

    #: Of the candidates' lines.
    counts: Counts
    #: All with the same time.
    rejections: Sequence[Rejection]
    effects: Sequence[Effect]
    #: Why a command waits for a command that it depends on, if any does.
    unsettled_reason: str | None = None

    @property
    def result(self) -> Result:
        """The result of the candidates' lines."""
        unmet = sum(rejection.code in UNMET_CODES for rejection in self.rejections)
        return Result(self.counts, unsettled_reason=self.unsettled_reason, unmet=unmet)


@dataclass(frozen=True, slots=True)
class ChunkApplier:
    """Applies chunks of a source over a connection."""

    connection: Connection
    source: Source
    resources: Mapping[str, ResourceSpec]
    decision_log: DecisionLog
    habits: Habits

    def needs_decisions_only(self, chunk: Chunk) -> bool:
        """Return whether each key of a live chunk has a decided command.

        The first transaction would apply no command then, unless the object is applied again, which
        a replay always does.
        """
        folded = chunk.folded
        if self.source.replay or folded.winners or chunk.unfit or chunk.held_reason is not None:
            return False
        for path, by_key in folded.edits.items():
            spec = self.resources[path]
            for commands in by_key.values():
                if not any(is_decided_command(c.op, c.body, c.condition, spec) for c in commands):
                    return False
        return bool(folded.edits)

    def apply_without_decisions(self, chunk: Chunk) -> ChunkResult:
        """Apply the commands that need no decision.

        Raises:
            PendingEntryError: roll back, let the decision log catch up, and try again.
            PatchedError: roll back, and try again.
            psycopg.Error: not the data's fault; the transaction must be rolled back.
        """
        self.connection.execute(_BEGIN)
        chunk = self._lock(chunk)
        # The common case: no rejection in this range of ids, so the ids need not be sent.
        first_id, last_id = (chunk.ids[0], chunk.ids[-1]) if chunk.ids else (None, None)
        any_rejected = self.decision_log.has_rejected_between(first_id, last_id)
        chunk = self._drop_rejected(chunk, chunk.ids if any_rejected else ())
        chunk = self._edit_rivals(self._follow_effects(chunk))
        result = self._apply_tables(chunk, decides=False).result
        if any(refusal.depends_on_other_rows for refusal in result.refusals):
            result = self._merge_conflicts(chunk, result)
        unfit_result = self._examine_unfit(chunk.unfit) if chunk.unfit else Result()
        total = result + unfit_result
        if not total.refusals and not chunk.invalid_lines:
            return ChunkResult(total)
        candidates = chunk.select_refused_keys(result.refusals, unfit_result.refusals)
        total = Result(total.counts - candidates.folded.counts, held_reason=total.held_reason)
        return ChunkResult(total, candidates, result.refusals)

    def decide_candidates(self, candidates: Chunk, *, is_rehearsal: bool = False) -> DecisionResult:
        """Try candidates again under exclusive locks, and reject those that fail.

        Args:
            candidates: from `apply_without_decisions`.
            is_rehearsal: whether to take no exclusive locks, which block other transactions.

        Returns:
            The counts of the candidates' lines, and the decisions. The caller records them.

        Raises:
            OvertakenError: a migration has created the table of an undeclared resource since.
            psycopg.Error: as `apply_without_decisions`.
        """
        self.connection.execute(_BEGIN)
        if not is_rehearsal:
            self._lock_exclusively(candidates)
        candidates = self._edit_candidates(candidates)
        effective_ids = [command.id for command in candidates.commands]
        chunk = self._drop_rejected(candidates, list({*candidates.ids, *effective_ids}))
        chunk = self._follow_effects(chunk)
        may_wait = not is_rehearsal and not self.source.replay
        patience = Patience(may_wait, self.source.delivered_ms)
        merged = self._apply_tables(chunk, decides=True, patience=patience)
        result = merged.result
        unfit_result = self._examine_unfit(chunk.unfit)
        # A migration has created the table since.
        if unfit_result.held_reason is not None and not is_rehearsal:
            raise OvertakenError
        result += unfit_result + Result(refusals=chunk.invalid_lines)
        # In microseconds, like Postgres and the archive.
        now = dt.datetime.now(dt.UTC)
        rejections = [
            Rejection.of(refusal, chunk.as_archived(refusal.entry), self.source.object, now)
            for refusal in (*result.refusals, *merged.refused_waiting)
        ]
        counts = result.counts + Counts(rejected=len(result.refusals))
        return DecisionResult(counts, rejections, merged.effects, result.unsettled_reason)

    def _lock_exclusively(self, candidates: Chunk) -> None:
        """Lock the candidates' resources exclusively, undeclared resources too.

        A release that declares them may be applying the command.
        """
        unfit_paths = {refusal.command.resource for refusal in candidates.unfit}
        possible_paths = sorted(filter(_RESOURCE_PATH.fullmatch, unfit_paths))[:_MAX_LOCKS]
        paths = {*candidates.folded.paths, *possible_paths}
        lock_resources(self.connection, paths, exclusive=True)

    def _edit_candidates(self, candidates: Chunk) -> Chunk:
        """The candidates in which all keys of a resource with an edited key are merged.

        So their commands are tried in one order: keys with decided commands may give up unique
        values, or claim them.
        """
        # Another transaction may have patched a key since the first transaction.
        if edited := self._find_edited_targets(candidates):
            candidates = candidates.with_edited(edited)
        paths = candidates.folded.edits.keys() & candidates.folded.winners.keys()
        if not paths:
            return candidates
        return candidates.with_edited(
            {(c.resource, c.key) for c in candidates.commands if c.resource in paths}
        )

    def _drop_rejected(self, chunk: Chunk, ids: Sequence[str]) -> Chunk:
        """The chunk without the invalid lines, and the commands among `ids`, rejected before."""
        lines = {
            derive_line_id(self.source.object, line.line): line for line in chunk.invalid_lines
        }
        rejected_ids = find_rejected(self.connection, [*ids, *lines]) if ids or lines else set()
        if not rejected_ids:
            return chunk
        remaining = [line for id_, line in lines.items() if id_ not in rejected_ids]
        return chunk.without_rejected(rejected_ids, remaining)

    def _lock(self, chunk: Chunk) -> Chunk:
        """Lock the chunk's resources; return the chunk in which keys with patches are edited.

        Raises:
            PatchedError: another transaction has just patched one of its keys.
        """
        if edited := self._find_edited_targets(chunk):
            chunk = chunk.with_edited(edited)
        lock_for_chunk(self.connection, chunk.folded.paths, chunk.folded.exclusive_paths)
        if self._find_edited_targets(chunk):
            raise PatchedError
        return chunk

    def _find_edited_targets(self, chunk: Chunk) -> list[Target]:
        """The folded keys that have patches in the database; valid while the lock is held."""
        winners = chunk.folded.winners
        paths = self.connection.execute(_HAS_EDITS, [list(winners)]).fetchall() if winners else []
        return [
            (path, key)
            for (path,) in paths
            for key in Table(self.connection, self.resources[path]).find_edited_keys(
                [command.key for command in winners[path]]
            )
        ]

    def _follow_effects(self, chunk: Chunk) -> Chunk:
        """The chunk with plain commands in place of the decided commands that have an effect."""
        decided_commands: dict[str, Command] = {}
        for path, by_key in chunk.folded.edits.items():
            spec = self.resources[path]
            decided_commands |= {
                command.id: command
                for commands in by_key.values()
                for command in commands
                if is_decided_command(command.op, command.body, command.condition, spec)
            }
        # An upcaster may fail on an increment, but not on the sum that it came to.
        for refusal in chunk.unfit:
            command = refusal.command
            declared = self.resources.get(command.resource)
            if (
                refusal.code == "upcast_failed"
                and declared is not None
                and is_decided_command(command.op, command.body, command.condition, declared)
            ):
                decided_commands[command.id] = command
        effects = find_effects(self.connection, list(decided_commands)) if decided_commands else {}
        if not effects:
            return chunk
        effective_ids = [effect.effective_id for effect in effects.values()]
        rejected_ids = find_rejected(self.connection, effective_ids)
        plain: dict[str, Command] = {}
        unfit: list[Refusal] = []
        for effect in effects.values():
            command = decided_commands[effect.id]
            try:
                plain[command.id] = upcast(
                    effect.apply_to(command), self.resources[command.resource]
                )
            except BodyError as exc:
                unfit.append(Refusal.of_body(command, exc))
        chunk = chunk.replace_commands(plain, unfit)
        return chunk.without_rejected(rejected_ids, chunk.invalid_lines) if rejected_ids else chunk

    def _edit_rivals(self, chunk: Chunk) -> Chunk:
        """The chunk in which commands that claim a unique value of an edited key are merged too.

        So all claims of the value are in the order of their commands' ids.
        """
        rivals: set[Target] = set()
        for path, by_key in chunk.folded.edits.items():
            winners = chunk.folded.winners.get(path, ())
            if not winners:
                continue
            unique_columns = Table(self.connection, self.resources[path]).read_unique_columns()
            edits = [command for commands in by_key.values() for command in commands]
            claims = [Claim.of_command(command) for command in (*winners, *edits)]
            for key, others in find_rivals(unique_columns, claims).items():
                rivals |= {(path, rival) for rival in (key, *others)}
        return chunk.with_edited(rivals) if rivals else chunk

    def _apply_tables(
        self, chunk: Chunk, *, decides: bool, patience: Patience = _NO_PATIENCE
    ) -> MergeResult:
        """Apply commands by table, each after the tables that it refers to by enforced references.

        Args:
            chunk: a chunk, or its candidates.
            decides: whether decisions are made.
            patience: how long decided commands may wait for commands that they depend on.
        """
        merged = MergeResult(
            Result(chunk.folded.counts + chunk.dropped, held_reason=chunk.held_reason)
        )
        for path in sorted(chunk.folded.paths, key=self._measure_depth):
            table = Table(self.connection, self.resources[path])
            if decides:
                table.drop_stage()
            merged += MergeResult(self._apply_with_runners_up(chunk, table, decides=decides))
            edits = chunk.folded.edits.get(path)
            if edits:
                merged += merge(table, edits, decides=decides, patience=patience)
        return merged

    def _merge_conflicts(self, chunk: Chunk, result: Result) -> Result:
        """Try refused commands of resources with edited keys again, all of them by a merge.

        A folded command and one of an edited key may block each other, such as in a swap of unique
        values.
        """
        paths = chunk.folded.edits.keys() & chunk.folded.winners.keys()
        refusals = [r for r in result.refusals if r.command.resource in paths]
        if not refusals:
            return result
        selected = chunk.select_refused_keys(refusals, ())
        targets = {(command.resource, command.key) for command in selected.commands}
        again = self._apply_tables(selected.with_edited(targets), decides=False).result
        still_refused = {(r.command.resource, r.command.key) for r in again.refusals}
        resolved = chunk.select_refused_keys(
            [r for r in refusals if (r.command.resource, r.command.key) not in still_refused], ()
        )
        # The losers among the commands of these keys were counted by the fold.
        counts = result.counts - resolved.folded.counts + again.counts
        others = [r for r in result.refusals if r.command.resource not in paths]
        return Result(counts, (*others, *again.refusals), held_reason=result.held_reason)

    def _apply_with_runners_up(self, chunk: Chunk, table: Table, *, decides: bool) -> Result:
        """Apply the winners of a table.

        With `decides`, the next best command of its key replaces a refused winner.
        """
        result = Result()
        winners, refused_ids = chunk.folded.winners.get(table.spec.path), set[str]()
        while winners:
            applied = apply_winners(table, winners, self.habits)
            result += applied
            if not decides:
                break
            refused_ids |= {refusal.command.id for refusal in applied.refusals}
            winners = chunk.folded.find_runners_up(applied.refusals, refused_ids)
            # The fold counted these as superseded.
            result += Result(Counts(superseded=-len(winners)))
        return result

    def _measure_depth(self, path: str, path_chain: frozenset[str] = frozenset()) -> int:
        """The length of the longest chain of enforced references that starts at a resource."""
        targets = {
            field.references.path
            for field in self.resources[path].fields
            if field.references is not None and field.references.enforced
        }
        path_chain |= {path}  # references may form a cycle
        return max(
            (1 + self._measure_depth(target, path_chain) for target in targets - path_chain),
            default=0,
        )

    def _examine_unfit(self, unfit: Sequence[Refusal]) -> Result:
        """Examine commands that can't be prepared: refuse those that need a decision."""
        result = Result()
        by_path: dict[str, list[Refusal]] = defaultdict(list)
        for refusal in unfit:
            by_path[refusal.command.resource].append(refusal)
        held_paths = self._find_undeclared_tables(by_path.keys() - self.resources.keys())
        for path, refusals in by_path.items():
            if path in self.resources:
                # The table may have a command that can't be upcast, or one that beats it; it has
                # no row with a key that does not fit.
                keyed = [refusal for refusal in refusals if refusal.code == "upcast_failed"]
                others = [refusal for refusal in refusals if refusal.code != "upcast_failed"]
                puts = [refusal for refusal in keyed if refusal.command.op != "patch"]
                patches = [refusal for refusal in keyed if refusal.command.op == "patch"]
                table = Table(self.connection, self.resources[path])
                result += table.drop_beaten(puts) + drop_known(table, patches)
                result += Result(refusals=others)
            elif path in held_paths or self.source.replay:
                result += Result(held_reason=_describe_unknown_resource(refusals[0].command))
            else:
                result += Result(refusals=refusals)
        return result

    def _find_undeclared_tables(self, paths: Iterable[str]) -> set[str]:
        """Undeclared resources that have a table in the database: another release declares them."""
        tables = {path: path.replace("-", "_") for path in paths if _RESOURCE_PATH.fullmatch(path)}
        if not tables:
            return set()
        rows = self.connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND relname = ANY(%s)",
            [list(tables.values())],
        ).fetchall()
        existing = {name for (name,) in rows}
        return {path for path, table in tables.items() if table in existing}


def _describe_unknown_resource(command: Command) -> str:
    return (
        f"command {command.id} is of the resource {command.resource[:80]!a}, which this release "
        "does not declare; apply it with the release that does"
    )
