"""Folds a bucket: who wins each key, and which commands nobody has rejected but could not apply."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forebay.apply.rows import body_completer
from forebay.apply.upcast import upcast
from forebay.codec import decode
from forebay.command import Body, Command, KeyValue
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec
from ops.folding.partition import Bucket, Kind

Target = tuple[str, KeyValue]


class ObjectCounts:
    """What becomes of each object's lines, by the object's number; all of them add up."""

    def __init__(self) -> None:
        self.applied = array("q")
        self.superseded = array("q")
        self.duplicates = array("q")
        self.rejected = array("q")

    def add_object(self) -> None:
        """One more object, without lines."""
        for counts in (self.applied, self.superseded, self.duplicates, self.rejected):
            counts.append(0)


@dataclass(slots=True)
class Winners:
    """What a bucket comes to."""

    #: By the commands that the ledger calls applied.
    applied: dict[Target, Command] = field(default_factory=dict)
    #: Commands that it does not, and that beat those: one of them may have been applied since.
    candidates: dict[Target, list[Command]] = field(default_factory=dict)
    #: The numbers of the objects that candidates and winners are in, by command id.
    object_of: dict[str, int] = field(default_factory=dict)
    #: Commands that can't apply and were never rejected, with the reason.
    unfit: list[tuple[Command, str]] = field(default_factory=list)
    #: Objects with commands that need a newer release.
    held_in: set[int] = field(default_factory=set)
    held: int = 0
    #: Ids of rejections: that the archive tells of, that unreadable lines must have, and that the
    #: database has.
    rejected: set[str] = field(default_factory=set)
    maybe_rejected: set[str] = field(default_factory=set)
    bad_lines: set[str] = field(default_factory=set)
    in_database: set[str] = field(default_factory=set)


def fold_bucket(
    bucket: Bucket, resources: Mapping[str, ResourceSpec], counts: ObjectCounts | None = None
) -> Winners:
    """The winners of a bucket's keys; memory holds one command per key, and every id.

    Args:
        bucket: of a partition.
        resources: the declarations, by path.
        counts: where what becomes of each line is added, if wanted.
    """
    winners = Winners()
    counts = counts if counts is not None else _NoCounts()
    check = _checker(resources)
    seen: set[str] = set()
    for kind, content in bucket.records():
        if kind in (Kind.REJECTED, Kind.MAYBE_REJECTED, Kind.IN_DATABASE):
            _ids(winners, kind).add(content.decode())
            continue
        prefix, _, line = content.partition(b"\t")
        number = int(prefix)
        if kind is Kind.BAD_LINE:
            winners.bad_lines.add(line.decode())
            counts.rejected[number] += 1
            continue
        command = decode(line)
        if command.id in seen:
            counts.duplicates[number] += 1
            continue
        if command.id in winners.rejected or command.id in winners.maybe_rejected:
            seen.add(command.id)
            counts.rejected[number] += 1
            continue
        spec = resources.get(command.resource)
        if spec is not None and command.schema > spec.schema_version:
            winners.held += 1
            winners.held_in.add(number)
            continue
        try:
            command = check(command)
        except BodyError as exc:
            if kind is Kind.APPLIED:
                winners.unfit.append((command, str(exc)))
            continue
        if kind is Kind.UNAPPLIED:
            winners.candidates.setdefault((command.resource, command.key), []).append(command)
            winners.object_of[command.id] = number
            continue
        seen.add(command.id)
        _contend(winners, command, number, counts)
    _drop_losers(winners)
    return winners


class _NoCounts(ObjectCounts):
    """Where nobody wants the counts."""

    def __init__(self) -> None:
        nowhere: Any = defaultdict(int)
        self.applied = self.superseded = self.duplicates = self.rejected = nowhere


def _ids(winners: Winners, kind: Kind) -> set[str]:
    match kind:
        case Kind.REJECTED:
            return winners.rejected
        case Kind.MAYBE_REJECTED:
            return winners.maybe_rejected
        case _:
            return winners.in_database


def _contend(winners: Winners, command: Command, number: int, counts: ObjectCounts) -> None:
    target = (command.resource, command.key)
    best = winners.applied.get(target)
    if best is not None and not command.beats(best):
        counts.superseded[number] += 1
        return
    if best is not None:
        beaten = winners.object_of.pop(best.id)
        counts.applied[beaten] -= 1
        counts.superseded[beaten] += 1
    winners.applied[target] = command
    winners.object_of[command.id] = number
    counts.applied[number] += 1


def _drop_losers(winners: Winners) -> None:
    for target, candidates in list(winners.candidates.items()):
        best = winners.applied.get(target)
        if best is not None:
            left = [command for command in candidates if command.beats(best)]
            if left:
                winners.candidates[target] = left
            else:
                del winners.candidates[target]


def _checker(resources: Mapping[str, ResourceSpec]) -> Callable[[Command], Command]:
    """A function that gives a command with its body complete, under the current schema version.

    The function raises:
        BodyError: the command can never apply.
    """
    completers: dict[str, Callable[[Body], Body]] = {
        path: body_completer(spec) for path, spec in resources.items()
    }

    def check(command: Command) -> Command:
        spec = resources.get(command.resource)
        if spec is None:
            raise BodyError("unknown_resource", f"no resource {command.resource!r}")
        if not spec.fits_key(command.key):
            raise BodyError("key_invalid", f"{command.key!r} is no key of {spec.path}")
        current = upcast(command, spec)
        if current.body is None:
            return current
        completed = completers[spec.path](current.body)
        if completed is current.body:
            return current
        return current._replace(body=completed)

    return check
