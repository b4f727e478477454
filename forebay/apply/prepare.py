"""The part of apply that needs no database; the read-ahead thread runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from forebay.apply.fold import Folded, fold
from forebay.apply.upcast import are_all_current, upcast
from forebay.archive.lines import Entry, InvalidLine
from forebay.command import Command
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec, retired_among


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chunk that is ready to be applied."""

    entries: Sequence[Entry]
    #: Ids of all commands in the chunk, ascending.
    ids: Sequence[str]
    #: Commands that may apply, under the current schema versions.
    commands: Sequence[Command]
    #: Commands that can't apply, as they were archived, with the reason.
    unfit: Sequence[tuple[Command, BodyError]]
    #: Upcast commands in their archived form, for rejections.
    archived: Mapping[str, Command]
    #: Why commands are held for newer code, if any are.
    held: str | None
    contest: Contest
    #: The number of commands of retired resources; `ids` has them, `commands` does not.
    skipped: int = 0

    @property
    def bad_lines(self) -> Iterator[InvalidLine]:
        """The invalid lines."""
        return (entry for entry in self.entries if isinstance(entry, InvalidLine))


@dataclass(frozen=True, slots=True)
class Contest:
    """The winners among some commands."""

    folded: Folded
    #: The winners by resource, in the order of their keys, which prevents deadlocks between
    #: consumers.
    winners: Mapping[str, list[Command]]
    #: Resources with a delete among the commands.
    deleting: frozenset[str]

    @classmethod
    def among(cls, commands: Sequence[Command]) -> Contest:
        """Fold commands of the current schema versions."""
        folded = fold(commands)
        winners = {
            path: sorted(of_resource.values(), key=in_order)
            for path, of_resource in folded.winners.items()
        }
        deleting = {command.resource for command in commands if command.op == "delete"}
        return cls(folded, winners, frozenset(deleting))


#: The order of a resource's commands in every transaction.
in_order = attrgetter("key")


def prepare(entries: Sequence[Entry], resources: Mapping[str, ResourceSpec]) -> Prepared:
    """Classify a chunk's entries, upcast its commands, and fold them."""
    present = [entry for entry in entries if isinstance(entry, Command)]
    ids = sorted([command.id for command in present])
    present, skipped = without_retired(present, resources)
    if are_all_current(present, resources):
        return Prepared(entries, ids, present, (), {}, None, Contest.among(present), skipped)
    commands: list[Command] = []
    unfit: list[tuple[Command, BodyError]] = []
    archived: dict[str, Command] = {}
    held: str | None = None
    for command in present:
        spec = resources.get(command.resource)
        if spec is not None and spec.fits_key(command.key) and command.schema > spec.schema_version:
            held = held or (
                f"command {command.id} has schema version {command.schema} of {spec.path}, this "
                f"release knows {spec.schema_version}; deploy the newer release"
            )
            continue
        try:
            current = made_current(command, spec)
        except BodyError as exc:
            unfit.append((command, exc))
            continue
        if current is not command:
            archived[command.id] = command
        commands.append(current)
    contest = Contest.among(commands)
    return Prepared(entries, ids, commands, unfit, archived, held, contest, skipped)


def without_retired(
    commands: list[Command], resources: Mapping[str, ResourceSpec]
) -> tuple[list[Command], int]:
    """The commands of resources that are not retired, and the number of the others."""
    retired_paths = retired_among(resources)
    if not retired_paths:
        return commands, 0
    remaining = [command for command in commands if command.resource not in retired_paths]
    return remaining, len(commands) - len(remaining)


def made_current(command: Command, spec: ResourceSpec | None) -> Command:
    """The command under its resource's current schema version.

    Args:
        command: of a schema version that is not newer than the current version.
        spec: its resource; None if the resource is not declared.

    Raises:
        BodyError: this release can't apply the command.
    """
    if spec is None:
        raise BodyError("unknown_resource", f"no resource {command.resource!r}")
    if not spec.fits_key(command.key):
        raise BodyError("key_invalid", f"{command.key!r} is no key of {spec.path}")
    return upcast(command, spec)
