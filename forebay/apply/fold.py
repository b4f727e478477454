"""Folds commands to one winner per key (law 2), and keeps the losers as runners-up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from forebay.command import Command, KeyValue

Target: TypeAlias = tuple[str, KeyValue]


@dataclass(slots=True)
class Folded:
    """The winners of a chunk, and the losers of keys with more than one command.

    A chunk is folded once and may be tried several times, so callers must not change it.
    """

    #: By resource and key.
    winners: dict[str, dict[KeyValue, Command]] = field(default_factory=dict)
    losers: dict[Target, list[Command]] = field(default_factory=dict)
    superseded: int = 0
    duplicates: int = 0

    def runner_up(self, rejected: Command, refused: Collection[str]) -> Command | None:
        """The best loser of the command's key that is not refused; None if there is none.

        Args:
            rejected: a command of the key.
            refused: the ids of all refused commands.
        """
        best: Command | None = None
        for candidate in self.losers.get((rejected.resource, rejected.key), ()):
            if candidate.id not in refused and (best is None or candidate.beats(best)):
                best = candidate
        return best


def fold(commands: Sequence[Command]) -> Folded:
    """Fold commands to one winner per key of every resource."""
    winners = {
        path: {command.key: command for command in of_resource}
        for path, of_resource in by_resource(commands).items()
    }
    if sum(map(len, winners.values())) == len(commands) == len({c.id for c in commands}):
        return Folded(winners)  # the common case: no key and no id twice
    return _fold_contested(commands)


def by_resource(commands: Sequence[Command]) -> Mapping[str, Sequence[Command]]:
    """The commands of each resource, in their order."""
    paths = {command.resource for command in commands}
    if len(paths) == 1:  # the common case
        return dict.fromkeys(paths, commands)
    grouped: dict[str, list[Command]] = {path: [] for path in paths}
    for command in commands:
        grouped[command.resource].append(command)
    return grouped


def _fold_contested(commands: Iterable[Command]) -> Folded:
    folded = Folded()
    winners, losers = folded.winners, folded.losers
    command_ids: set[str] = set()
    for command in commands:
        if command.id in command_ids:
            folded.duplicates += 1
            continue
        command_ids.add(command.id)
        of_resource = winners.setdefault(command.resource, {})
        best = of_resource.setdefault(command.key, command)
        if best is command:
            continue
        if command.beats(best):
            of_resource[command.key], command = command, best  # noqa: PLW2901 - now the loser
        losers.setdefault((command.resource, command.key), []).append(command)
        folded.superseded += 1
    return folded
