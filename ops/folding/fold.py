"""Fold a bucket: the winner of each key, and the commands that can't apply and lack a rejection."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from forebay.apply.prepare import are_all_current, make_current
from forebay.apply.rows import Rows
from forebay.command import Command, KeyValue
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec, retired_among
from ops.archive.invalid import LineFault
from ops.folding.bodies import build_completer
from ops.folding.partition import Bucket, Content, Kind

Target = tuple[str, KeyValue]


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

    #: The winner of each key among the commands that the ledger calls applied.
    applied: dict[Target, Command] = field(default_factory=dict)
    #: The rows of the winners with a body, by the paths of their resources.
    rows: dict[str, Rows] = field(default_factory=dict)
    #: Commands that the ledger does not call applied and that beat the winner: one of them may have
    #: been applied since the ledger was read.
    candidates: dict[Target, list[Command]] = field(default_factory=dict)
    #: The numbers of the objects that hold candidates and winners, by command id.
    object_of: dict[str, int] = field(default_factory=dict)
    #: Commands that can't apply and have no rejection, with the reason.
    refused: list[tuple[Command, str]] = field(default_factory=list)
    #: Numbers of objects with commands that need a newer release.
    held_in: set[int] = field(default_factory=set)
    held: int = 0
    #: Ids of rejections, one set for each kind of record; see `Kind`.
    rejected: set[str] = field(default_factory=set)
    maybe_rejected: set[str] = field(default_factory=set)
    privately_rejected: set[str] = field(default_factory=set)
    #: Invalid lines by the ids of their rejections.
    invalid_lines: dict[str, LineFault] = field(default_factory=dict)
    in_database: set[str] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)


def fold_bucket(bucket: Bucket, resources: Mapping[str, ResourceSpec]) -> Winners:
    """Return the winners of a bucket's keys.

    Memory holds one command per key, and every id.

    Args:
        bucket: a bucket of a partition.
        resources: the declarations, by path.
    """
    excluded: dict[str, tuple[Command, str]] = {}
    while True:
        folding = _Folding(resources, excluded)
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
        self, resources: Mapping[str, ResourceSpec], excluded: Mapping[str, tuple[Command, str]]
    ) -> None:
        self.winners = Winners()
        self.tally = self.winners.tally
        self._resources = resources
        self._retired = retired_among(resources)
        self._excluded = excluded
        #: Keys with a winner that can't have a row. Every command of these keys is validated, since
        #: any number of them can be invalid, and each would cost a pass.
        self._suspect = {(command.resource, command.key) for command, _ in excluded.values()}
        self._completers = {path: build_completer(spec) for path, spec in resources.items()}
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
        numbers, values = zip(*contents, strict=True)
        if kind is Kind.INVALID_LINE:
            self.winners.invalid_lines.update((line[0], LineFault._make(line)) for line in values)
            self.tally.rejected.update(numbers)
            return
        commands = self._filter_unrejected(kind, list(map(Command._make, values)), numbers)
        if kind is Kind.UNAPPLIED:
            self._add_candidates(commands)
        else:
            self._contend(commands)

    def complete(self) -> dict[str, tuple[Command, str]]:
        """Complete the bodies of winners and candidates; return the winners that fit no row."""
        winners = self.winners
        misfits = self._find_unprepared()
        for path in self._resources:
            resource_commands = [
                c for c in winners.applied.values() if c.resource == path and c.id not in misfits
            ]
            commands, encoded = self._completers[path](resource_commands)
            winners.rows[path] = encoded.rows
            winners.applied.update({(path, command.key): command for command in commands})
            misfits |= {r.command.id: (r.command, r.detail) for r in encoded.refusals}
        if misfits:
            return misfits
        winners.refused += self._excluded.values()
        self._keep_what_beats_the_winners()
        return {}

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
    ) -> Iterator[tuple[Command, int]]:
        """Yield the commands that are neither rejected nor held, in the current schema version."""
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
                continue
            if command.id in seen:
                tally.duplicates[number] += 1
                continue
            if rejected and any(command.id in ids for ids in rejected):
                seen.add(command.id)
                tally.rejected[number] += 1
                continue
            current = command
            if not are_current:
                spec = self._resources.get(command.resource)
                if spec is not None and command.schema > spec.schema_version:
                    winners.held += 1
                    winners.held_in.add(number)
                    continue
                try:
                    current = make_current(command, spec)
                except BodyError:
                    # An invalid body matters only if the command wins: losers were never validated.
                    if kind is not Kind.APPLIED:
                        continue
            yield current, number

    def _contend(self, commands: Iterable[tuple[Command, int]]) -> None:
        applied, tally = self.winners.applied, self.tally
        object_of, seen = self.winners.object_of, self._seen
        for command, number in commands:
            seen.add(command.id)
            target = (command.resource, command.key)
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

    def _add_candidates(self, commands: Iterable[tuple[Command, int]]) -> None:
        for command, number in commands:
            candidates = self.winners.candidates
            candidates.setdefault((command.resource, command.key), []).append(command)
            self.winners.object_of[command.id] = number

    def _keep_what_beats_the_winners(self) -> None:
        """Keep the candidates that beat the winner and can have a row, with complete bodies."""
        winners = self.winners
        for target, candidates in list(winners.candidates.items()):
            winner = winners.applied.get(target)
            contenders = [
                command for command in candidates if winner is None or command.beats(winner)
            ]
            complete, _ = self._completers[target[0]](contenders)
            if complete:
                winners.candidates[target] = complete
            else:
                del winners.candidates[target]
