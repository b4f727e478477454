"""What can be decided about a chunk before the database is asked: the read-ahead thread does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from forebay.apply.fold import Folded, fold
from forebay.apply.outcome import BadLine, Entry
from forebay.apply.upcast import are_all_current, upcast
from forebay.command import Command
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec, retired_among


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chunk that is ready to be applied."""

    entries: Sequence[Entry]
    #: Of every command in it, ascending.
    ids: Sequence[str]
    #: Commands that may apply, under the current schema versions.
    commands: Sequence[Command]
    #: Commands that can't apply, as they were archived, with the reason.
    unfit: Sequence[tuple[Command, BodyError]]
    #: The upcast commands as the archive has them: a rejection tells what was archived.
    archived: Mapping[str, Command]
    #: Why commands must wait for newer code, if any must.
    held: str | None
    contest: Contest
    #: How many commands are of retired resources; they are in `ids`, and not in `commands`.
    skipped: int = 0

    @property
    def bad_lines(self) -> Iterator[BadLine]:
        """The lines that are no commands."""
        return (entry for entry in self.entries if isinstance(entry, BadLine))


@dataclass(frozen=True, slots=True)
class Contest:
    """Who has won among some commands."""

    folded: Folded
    #: The winners by resource, each in the order of their keys: two consumers then never wait for
    #: each other in a ring.
    winners: Mapping[str, list[Command]]
    #: Resources of which something may be deleted.
    deleting: frozenset[str]

    @classmethod
    def among(cls, commands: Sequence[Command]) -> Contest:
        """Folds commands of the current schema versions."""
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
    """Sorts a chunk out, brings its commands up to date, and folds them."""
    found = [entry for entry in entries if isinstance(entry, Command)]
    ids = sorted([command.id for command in found])
    found, skipped = without_retired(found, resources)
    if are_all_current(found, resources):
        return Prepared(entries, ids, found, (), {}, None, Contest.among(found), skipped)
    commands: list[Command] = []
    unfit: list[tuple[Command, BodyError]] = []
    archived: dict[str, Command] = {}
    held: str | None = None
    for command in found:
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
    retired = retired_among(resources)
    if not retired:
        return commands, 0
    left = [command for command in commands if command.resource not in retired]
    return left, len(commands) - len(left)


def made_current(command: Command, spec: ResourceSpec | None) -> Command:
    """The command under its resource's current schema version.

    Args:
        command: of a schema version that is not newer than that.
        spec: its resource; None if there is none of that name.

    Raises:
        BodyError: it can never apply.
    """
    if spec is None:
        raise BodyError("unknown_resource", f"no resource {command.resource!r}")
    if not spec.fits_key(command.key):
        raise BodyError("key_invalid", f"{command.key!r} is no key of {spec.path}")
    return upcast(command, spec)
