"""Fold a bucket: the state of each key, and the commands that can't apply and lack a rejection.

Patches are folded together with the puts, creates and deletes of their keys, and a winner's body
has their values. A decided command is replaced by the plain command that its effect makes of it;
without an effect it is left out, because it was not applied yet.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forebay.apply.edits.state import KeyState
from forebay.apply.prepare import are_all_current, make_current
from forebay.apply.rows.encoding import Encoder, Rows
from forebay.command import Command, Target
from forebay.decided_commands import is_decided_command
from forebay.decisions.effects import Effect
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec, find_retired
from ops.archive.invalid import LineFault
from ops.cut import EVERYTHING
from ops.folding.bodies import build_completer
from ops.folding.partition import Bucket, Content, Kind


class ObjectCounts:
    """The line counts of each object, by its number; the five counts add up to all its lines."""

    def __init__(self, numbers: int) -> None:
        """Start with a count of 0 for every object.

        Args:
            numbers: how many object numbers there are.
        """
        zeros = array("q", bytes(8 * numbers))
        self.applied, self.superseded = zeros[:], zeros[:]
        self.duplicates, self.rejected, self.skipped = zeros[:], zeros[:], zeros[:]

    def add(self, tally: Tally) -> None:
        """Add the counts of some lines."""
        for counts, additions in (
            (self.applied, tally.applied),
            (self.superseded, tally.superseded),
            (self.duplicates, tally.duplicates),
            (self.rejected, tally.rejected),
            (self.skipped, tally.skipped),
        ):
            for number, count in additions.items():
                counts[number] += count


@dataclass(slots=True)
class Tally:
    """The line counts of one bucket, by the numbers of the objects."""

    applied: Counter[int] = field(default_factory=Counter)
    superseded: Counter[int] = field(default_factory=Counter)
    duplicates: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)
    skipped: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class Winners:
    """The result of folding a bucket."""

    #: The winner of each key among the puts, creates and deletes that the ledger calls applied; its
    #: body has the values of the key's patches.
    applied: dict[Target, Command] = field(default_factory=dict)
    #: The state of each key with patches, if a patch has an effect or may have one later.
    edits: dict[Target, KeyState] = field(default_factory=dict)
    #: The rows of the winners with a body, by the paths of their resources.
    rows: dict[str, Rows] = field(default_factory=dict)
    #: Commands that the ledger does not call applied and that beat the winner, and patches: one of
    #: them may have been applied since the ledger was read.
    maybe_applied: dict[Target, list[Command]] = field(default_factory=dict)
    #: The numbers of the objects that hold winners and commands that may be applied, by command id.
    object_of: dict[str, int] = field(default_factory=dict)
    #: Commands that can't apply and have no rejection, with the reason.
    refused: list[tuple[Command, str]] = field(default_factory=list)
    #: Numbers of objects with commands that need a newer release.
    held_in: set[int] = field(default_factory=set)
    held: int = 0
    #: Decided commands without a decision, by id.
    undecided: dict[str, Command] = field(default_factory=dict)
    #: Decided commands with places after the cut, as the plain commands that they became.
    later: list[Command] = field(default_factory=list)
    #: Numbers of the objects with such commands: a part of their commands is not applied.
    incomplete: set[int] = field(default_factory=set)
    #: Ids of rejections, one set for each kind of record; see `Kind`.
    rejected: set[str] = field(default_factory=set)
    maybe_rejected: set[str] = field(default_factory=set)
    privately_rejected: set[str] = field(default_factory=set)
    #: Invalid lines by the ids of their rejections.
    invalid_lines: dict[str, LineFault] = field(default_factory=dict)
    in_database: set[str] = field(default_factory=set)
    #: The rows of `forebay.edits` in the database; see `ops.verify.edits`.
    edits_in_database: list[Any] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def add_maybe_applied(
        self, target: Target, ids: Collection[str]
    ) -> tuple[KeyState, list[Command]]:
        """Return the state of a key with its maybe applied commands of these ids, and these."""
        state = self.edits.get(target)
        if state is None:
            state = KeyState.of_commands(self.applied.get(target), ())
        state = state.copied()
        used = [command for command in self.maybe_applied.get(target, ()) if command.id in ids]
        for command in used:
            state.absorb(command)
        return state, used


def fold_bucket(
    bucket: Bucket, resources: Mapping[str, ResourceSpec], *, cut: str = EVERYTHING
) -> Winners:
    """Return the winners of a bucket's keys.

    Memory holds one command per key and per patched field, and every id.

    Args:
        bucket: a bucket of a partition.
        resources: the declarations, by path.
        cut: the greatest id of the place of a decided command.
    """
    excluded: dict[str, tuple[Command, str]] = {}
    while True:
        folding = _Folding(resources, excluded, cut)
        for kind, contents in bucket.runs():
            folding.take(kind, contents)
        additions = folding.complete()
        if not additions:
            break
        # Such a command was never applied, so another command of its key has won. This is rare, so
        # the bucket is read again.
        excluded |= additions
    return folding.winners


class _Folding:
    """One pass over the records of a bucket."""

    def __init__(
        self,
        resources: Mapping[str, ResourceSpec],
        excluded: Mapping[str, tuple[Command, str]],
        cut: str,
    ) -> None:
        self.winners = Winners()
        self.tally = self.winners.tally
        self._resources = resources
        self._retired = find_retired(resources)
        self._excluded = excluded
        self._cut = cut
        #: The effects of decided commands, by id; see `Kind`.
        self._effects: dict[str, Effect] = {}
        self._own_effects: dict[str, Effect] = {}
        self._maybe_effects: dict[str, Effect] = {}
        #: By key, the patches that the ledger calls applied: without a base, they all wait.
        self._patches: dict[Target, KeyState] = {}
        #: By key, patches that this release can't bring up to date, with the reasons.
        self._unfit_patches: dict[Target, list[tuple[Command, str]]] = {}
        #: Keys with a winner that can't have a row. Every command of these keys is validated, since
        #: any number of them can be invalid, and each would cost a pass.
        self._suspect = {(command.resource, command.key) for command, _ in excluded.values()}
        self._encoders = {path: Encoder(spec) for path, spec in resources.items()}
        self._completers = {path: build_completer(spec) for path, spec in resources.items()}
        self._effects_of = {
            Kind.EFFECT: self._effects,
            Kind.OWN_EFFECT: self._own_effects,
            Kind.MAYBE_EFFECT: self._maybe_effects,
        }
        self._seen: set[str] = set()
        self._ids: dict[Kind, set[str]] = {
            Kind.REJECTED: self.winners.rejected,
            Kind.MAYBE_REJECTED: self.winners.maybe_rejected,
            Kind.IN_DATABASE: self.winners.in_database,
            Kind.PRIVATELY_REJECTED: self.winners.privately_rejected,
        }

    def take(self, kind: Kind, contents: Sequence[Content]) -> None:
        """Process records of one kind."""
        if kind in self._ids:
            self._ids[kind].update(contents)
            return
        if kind in self._effects_of:
            for effect in map(Effect.from_archive, contents):
                self._effects_of[kind].setdefault(effect.id, effect)
            return
        if kind is Kind.EDITS:
            self.winners.edits_in_database += contents
            return
        numbers, values = zip(*contents, strict=True)
        if kind is Kind.INVALID_LINE:
            self.winners.invalid_lines.update((line[0], LineFault._make(line)) for line in values)
            self.tally.rejected.update(numbers)
            return
        self._contend(self._filter_unrejected(kind, list(map(Command._make, values)), numbers))

    def complete(self) -> dict[str, tuple[Command, str]]:
        """Complete all bodies; return the winners that fit no row."""
        winners = self.winners
        misfits = self._find_unprepared()
        for path in self._resources:
            misfits |= self._complete_winners(path, misfits)
        if misfits:
            return misfits
        misfits = self._merge_patches()
        for path in {path for path, _ in winners.edits} & self._resources.keys():
            misfits |= self._complete_winners(path, misfits)
        if misfits:
            return misfits
        winners.refused += self._excluded.values()
        self._keep_what_beats_the_winners()
        return {}

    def _complete_winners(
        self, path: str, misfits: Mapping[str, tuple[Command, str]]
    ) -> dict[str, tuple[Command, str]]:
        """Complete the bodies of a resource's winners; return the winners that fit no row."""
        winners = self.winners
        resource_commands = [
            c for c in winners.applied.values() if c.resource == path and c.id not in misfits
        ]
        commands, encoded = self._completers[path](resource_commands)
        winners.rows[path] = encoded.rows
        winners.applied.update({(path, command.key): command for command in commands})
        return {r.command.id: (r.command, r.detail) for r in encoded.refusals}

    def _merge_patches(self) -> dict[str, tuple[Command, str]]:
        """Give the winners the values of patches; return the patches that can't apply."""
        misfits: dict[str, tuple[Command, str]] = {}
        for target, unfit in self._unfit_patches.items():
            base = self.winners.applied.get(target)
            misfits |= {c.id: (c, reason) for c, reason in unfit if not _is_overwritten(c, base)}
        for target, waiting in self._patches.items():
            base = self.winners.applied.get(target)
            state = KeyState.of_commands(base, waiting.kept.values())
            state.remember(waiting.recent)
            misfits |= self._find_misfits(target[0], state, waiting)
            if base is not None and state.fields:
                self.winners.applied[target] = base._replace(body=state.values)
            self._count_effects(state)
            if not state.is_plain:
                self.winners.edits[target] = state
        return misfits

    def _find_misfits(
        self, path: str, state: KeyState, patches: KeyState
    ) -> Iterator[tuple[str, tuple[Command, str]]]:
        """Yield the ids of patches with values that can't be in a row, with patch and reason."""
        encoder = self._encoders[path]
        bodies = {patch_id: patch.body or {} for patch_id, patch in state.kept.items()}
        for name, patch_id in state.fields.items():
            bodies[patch_id] = {**bodies.get(patch_id, {}), name: state.values[name]}
        for patch_id, values in bodies.items():
            try:
                encoder.encode_fields(values)
            except BodyError as exc:
                yield patch_id, (patches.kept[patch_id], str(exc))

    def _count_effects(self, state: KeyState) -> None:
        """Count the patches that have an effect, or wait for one, as applied."""
        tally, object_of = self.tally, self.winners.object_of
        for patch_id in {*state.fields.values(), *state.list_waiting()}:
            tally.superseded[object_of[patch_id]] -= 1
            tally.applied[object_of[patch_id]] += 1

    def _find_unprepared(self) -> dict[str, tuple[Command, str]]:
        """Return the winners that this release can't bring up to date, with the reason."""
        commands = list(self.winners.applied.values())
        if are_all_current(commands, self._resources):
            return {}
        misfits: dict[str, tuple[Command, str]] = {}
        for command in commands:
            try:
                make_current(command, self._resources.get(command.resource))
            except BodyError as exc:
                misfits[command.id] = (command, str(exc))
        return misfits

    def _find_reason_against(self, command: Command) -> str | None:
        """Return the reason why a command can't have a row; None if it can."""
        try:
            make_current(command, self._resources.get(command.resource))
        except BodyError as exc:
            return str(exc)
        _, encoded = self._completers[command.resource]([command])
        return encoded.refusals[0].detail if encoded.refusals else None

    def _filter_unrejected(
        self, kind: Kind, commands: Sequence[Command], numbers: Sequence[int]
    ) -> Iterator[tuple[Command, Kind, int]]:
        """Yield the commands that are neither rejected nor held, in the current schema version.

        Decided commands are yielded as the plain commands that they became.
        """
        winners, seen, tally = self.winners, self._seen, self.tally
        id_sets = (
            winners.rejected,
            winners.maybe_rejected,
            winners.privately_rejected,
            self._excluded.keys(),
        )
        rejected = [ids for ids in id_sets if ids]
        are_current = are_all_current(commands, self._resources)
        for command, number in zip(commands, numbers, strict=True):
            if command.resource in self._retired:
                if kind is Kind.APPLIED:
                    tally.skipped[number] += 1
            elif command.id in seen:
                tally.duplicates[number] += 1
            elif rejected and any(command.id in ids for ids in rejected):
                seen.add(command.id)
                tally.rejected[number] += 1
            elif are_current and command.condition is None and command.op != "patch":
                if kind is Kind.APPLIED:
                    seen.add(command.id)
                yield command, kind, number
            else:
                yield from self._resolve(command, kind, number)

    def _resolve(
        self, archived: Command, kind: Kind, number: int
    ) -> Iterator[tuple[Command, Kind, int]]:
        """Yield the plain command of the current schema version, if there is one."""
        effect = self._effects.get(archived.id) or self._own_effects.get(archived.id)
        if effect is None and (effect := self._maybe_effects.get(archived.id)) is not None:
            kind = Kind.UNAPPLIED
        command = archived if effect is None else effect.apply_to(archived)
        if command.id in self._excluded:  # by the id of its place
            self._seen.add(archived.id)
            self.tally.rejected[number] += 1
            return
        spec = self._resources.get(command.resource)
        if spec is not None and command.schema > spec.schema_version:
            self.winners.held += 1
            self.winners.held_in.add(number)
            return
        try:
            command = make_current(command, spec)
        except BodyError as exc:
            # An invalid body matters only if the command wins: losers were never validated.
            if kind is not Kind.APPLIED:
                return
            if command.op == "patch":
                self._add_unfit_patch(archived, command, str(exc), number)
                return
        if command.id > self._cut:
            self.winners.later.append(command)
            self.winners.incomplete.add(number)
        elif spec is not None and is_decided_command(
            command.op, command.body, command.condition, spec
        ):
            self._leave_undecided(archived, kind, number)
        else:
            if kind is Kind.APPLIED:
                self._seen.add(archived.id)
            yield command, kind, number

    def _leave_undecided(self, archived: Command, kind: Kind, number: int) -> None:
        if kind is Kind.APPLIED:
            self.winners.undecided[archived.id] = archived
            self.winners.incomplete.add(number)

    def _add_unfit_patch(self, archived: Command, patch: Command, reason: str, number: int) -> None:
        self._seen.add(archived.id)
        self.tally.superseded[number] += 1
        target = (patch.resource, patch.key)
        self._unfit_patches.setdefault(target, []).append((patch, reason))

    def _contend(self, commands: Iterable[tuple[Command, Kind, int]]) -> None:
        applied, tally = self.winners.applied, self.tally
        object_of = self.winners.object_of
        for command, kind, number in commands:
            target = (command.resource, command.key)
            if kind is Kind.UNAPPLIED:
                self.winners.maybe_applied.setdefault(target, []).append(command)
                object_of[command.id] = number
                continue
            if command.op == "patch":
                self._patches.setdefault(target, KeyState()).absorb(command)
                tally.superseded[number] += 1
                object_of[command.id] = number
                continue
            if target in self._suspect:
                reason = self._find_reason_against(command)
                if reason is not None:
                    tally.rejected[number] += 1
                    self.winners.refused.append((command, reason))
                    continue
            winner = applied.get(target)
            if winner is not None:
                if not command.beats(winner):
                    tally.superseded[number] += 1
                    continue
                loser_object = object_of.pop(winner.id)
                tally.applied[loser_object] -= 1
                tally.superseded[loser_object] += 1
            applied[target] = command
            object_of[command.id] = number
            tally.applied[number] += 1

    def _keep_what_beats_the_winners(self) -> None:
        """Keep only the maybe applied commands that can change the key and can have a row."""
        winners = self.winners
        for target, commands in list(winners.maybe_applied.items()):
            winner = winners.applied.get(target)
            contenders = [
                command
                for command in commands
                if command.op != "patch" and (winner is None or command.beats(winner))
            ]
            complete, _ = self._completers[target[0]](contenders)
            complete += [
                command
                for command in commands
                if command.op == "patch" and not _is_overwritten(command, winner)
            ]
            if complete:
                winners.maybe_applied[target] = complete
            else:
                del winners.maybe_applied[target]


def _is_overwritten(patch: Command, base: Command | None) -> bool:
    """Return whether the base is a put or delete that is newer than the patch."""
    return base is not None and base.op != "create" and base.id > patch.id
