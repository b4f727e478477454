"""Folds a bucket: who wins each key, and which commands nobody has rejected but could not apply."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from forebay.apply.prepare import made_current
from forebay.apply.rows import bodies_completer
from forebay.apply.rowset import RowSet
from forebay.apply.upcast import are_all_current
from forebay.command import Command, KeyValue
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec, retired_among
from ops.archive.invalid import InvalidLine
from ops.folding.partition import Bucket, Content, Kind

Target = tuple[str, KeyValue]


class ObjectCounts:
    """What becomes of each object's lines, by the object's number; all of them add up."""

    def __init__(self, numbers: int) -> None:
        """Of objects that have no lines yet.

        Args:
            numbers: how many numbers objects may have.
        """
        none = array("q", bytes(8 * numbers))
        self.applied, self.superseded = none[:], none[:]
        self.duplicates, self.rejected, self.skipped = none[:], none[:], none[:]

    def add(self, tally: Tally) -> None:
        """Adds what became of some lines."""
        for counts, more in (
            (self.applied, tally.applied),
            (self.superseded, tally.superseded),
            (self.duplicates, tally.duplicates),
            (self.rejected, tally.rejected),
            (self.skipped, tally.skipped),
        ):
            for number, count in more.items():
                counts[number] += count


@dataclass(slots=True)
class Tally:
    """What becomes of the lines of one bucket, by the numbers of their objects."""

    applied: Counter[int] = field(default_factory=Counter)
    superseded: Counter[int] = field(default_factory=Counter)
    duplicates: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)
    skipped: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class Winners:
    """What a bucket comes to."""

    #: By the commands that the ledger calls applied.
    applied: dict[Target, Command] = field(default_factory=dict)
    #: Rows of the puts among those, by their resources' paths.
    rows: dict[str, RowSet] = field(default_factory=dict)
    #: Commands that it does not, and that beat those: one of them may have been applied since.
    candidates: dict[Target, list[Command]] = field(default_factory=dict)
    #: The numbers of the objects that candidates and winners are in, by command id.
    object_of: dict[str, int] = field(default_factory=dict)
    #: Commands that can't apply and were never rejected, with the reason.
    unfit: list[tuple[Command, str]] = field(default_factory=list)
    #: Objects with commands that need a newer release.
    held_in: set[int] = field(default_factory=set)
    held: int = 0
    #: Ids of rejections: that the archive tells of, and that the database has.
    rejected: set[str] = field(default_factory=set)
    maybe_rejected: set[str] = field(default_factory=set)
    own_rejected: set[str] = field(default_factory=set)
    #: Invalid lines by the ids of their rejections.
    bad_lines: dict[str, InvalidLine] = field(default_factory=dict)
    in_database: set[str] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)


def fold_bucket(bucket: Bucket, resources: Mapping[str, ResourceSpec]) -> Winners:
    """The winners of a bucket's keys; memory holds one command per key, and every id.

    Args:
        bucket: of a partition.
        resources: the declarations, by path.
    """
    unfit: dict[str, tuple[Command, str]] = {}
    while True:
        folding = _Folding(resources, unfit)
        for kind, contents in bucket.runs():
            folding.take(kind, contents)
        more = folding.complete()
        if not more:
            break
        # Such a command was never applied, so another of its key has won. That hardly ever is.
        unfit |= more
    return folding.winners


class _Folding:
    """One pass over the records of a bucket."""

    def __init__(
        self, resources: Mapping[str, ResourceSpec], unfit: Mapping[str, tuple[Command, str]]
    ) -> None:
        self.winners = Winners()
        self.tally = self.winners.tally
        self._resources = resources
        self._retired = retired_among(resources)
        self._excluded = unfit
        #: Keys whose winner can have no row: of these each command's body is looked at, for there
        #: may be as many such as the key has commands.
        self._suspect = {(command.resource, command.key) for command, _ in unfit.values()}
        self._completers = {path: bodies_completer(spec) for path, spec in resources.items()}
        self._seen: set[str] = set()
        self._ids: dict[Kind, set[str]] = {
            Kind.REJECTED: self.winners.rejected,
            Kind.MAYBE_REJECTED: self.winners.maybe_rejected,
            Kind.IN_DATABASE: self.winners.in_database,
            Kind.OWN_REJECTED: self.winners.own_rejected,
        }

    def take(self, kind: Kind, contents: Sequence[Content]) -> None:
        """Takes records of one kind in."""
        if kind in self._ids:
            self._ids[kind].update(contents)
            return
        numbers, said = zip(*contents, strict=True)
        if kind is Kind.BAD_LINE:
            self.winners.bad_lines.update((line[0], InvalidLine._make(line)) for line in said)
            self.tally.rejected.update(numbers)
            return
        commands = self._unrejected(kind, list(map(Command._make, said)), numbers)
        if kind is Kind.UNAPPLIED:
            self._add_candidates(commands)
        else:
            self._contend(commands)

    def complete(self) -> dict[str, tuple[Command, str]]:
        """Completes the bodies of winners and candidates; which of the winners can have no row."""
        winners = self.winners
        found = self._unprepared()
        for path in self._resources:
            of_resource = [
                c for c in winners.applied.values() if c.resource == path and c.id not in found
            ]
            commands, rows = self._completers[path](of_resource)
            winners.rows[path] = RowSet.joined(rows.parts)
            winners.applied.update({(path, command.key): command for command in commands})
            found |= {command.id: (command, str(exc)) for command, exc in rows.unfit}
        if found:
            return found
        winners.unfit += self._excluded.values()
        self._keep_what_beats_the_winners()
        return {}

    def _unprepared(self) -> dict[str, tuple[Command, str]]:
        """Winners that this release can't bring up to date."""
        commands = list(self.winners.applied.values())
        if are_all_current(commands, self._resources):
            return {}
        found: dict[str, tuple[Command, str]] = {}
        for command in commands:
            try:
                made_current(command, self._resources.get(command.resource))
            except BodyError as exc:
                found[command.id] = (command, str(exc))
        return found

    def _reason_against(self, command: Command) -> str | None:
        """Why a command can have no row, if it can't."""
        try:
            made_current(command, self._resources.get(command.resource))
        except BodyError as exc:
            return str(exc)
        _, rows = self._completers[command.resource]([command])
        return str(rows.unfit[0][1]) if rows.unfit else None

    def _unrejected(
        self, kind: Kind, commands: Sequence[Command], numbers: Sequence[int]
    ) -> Iterator[tuple[Command, int]]:
        """Those that are neither rejected nor held, under the current schema version."""
        winners, seen, tally = self.winners, self._seen, self.tally
        known = (
            winners.rejected,
            winners.maybe_rejected,
            winners.own_rejected,
            self._excluded.keys(),
        )
        rejected = [ids for ids in known if ids]
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
                    current = made_current(command, spec)
                except BodyError:
                    # Only if it wins does it matter: what loses has never been looked at.
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
                reason = self._reason_against(command)
                if reason is not None:
                    tally.rejected[number] += 1
                    self.winners.unfit.append((command, reason))
                    continue
            best = applied.get(target)
            if best is not None:
                if not command.beats(best):
                    tally.superseded[number] += 1
                    continue
                beaten = object_of.pop(best.id)
                tally.applied[beaten] -= 1
                tally.superseded[beaten] += 1
            applied[target] = command
            object_of[command.id] = number
            tally.applied[number] += 1

    def _add_candidates(self, commands: Iterable[tuple[Command, int]]) -> None:
        for command, number in commands:
            candidates = self.winners.candidates
            candidates.setdefault((command.resource, command.key), []).append(command)
            self.winners.object_of[command.id] = number

    def _keep_what_beats_the_winners(self) -> None:
        """Of the candidates, and with their bodies complete."""
        winners = self.winners
        for target, candidates in list(winners.candidates.items()):
            best = winners.applied.get(target)
            left = [c for c in candidates if best is None or c.beats(best)]
            fit, _ = self._completers[target[0]](left)
            if fit:
                winners.candidates[target] = fit
            else:
                del winners.candidates[target]
