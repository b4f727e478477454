"""Folds commands to one winner per key (law 2), keeping the losers in case a winner is rejected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from forebay.command import Command, KeyValue

Target: TypeAlias = tuple[str, KeyValue]


@dataclass(slots=True)
class Folded:
    """The winners of a batch and, per key with more than one command, the others."""

    winners: dict[Target, Command] = field(default_factory=dict)
    losers: dict[Target, list[Command]] = field(default_factory=dict)
    superseded: int = 0
    duplicates: int = 0

    def runner_up(self, rejected: Command) -> Command | None:
        """The best of the rest of that key, taken out of the losers; None if there is none."""
        rest = self.losers.get((rejected.resource, rejected.key))
        if not rest:
            return None
        best = rest[0]
        for candidate in rest[1:]:
            if candidate.beats(best):
                best = candidate
        rest.remove(best)
        self.superseded -= 1
        return best


def fold(commands: Sequence[Command]) -> Folded:
    """One winner per key of every resource."""
    winners = {(command.resource, command.key): command for command in commands}
    ids = {command.id for command in commands}
    if len(winners) == len(ids) == len(commands):  # as mostly
        return Folded(winners)
    return _contest(commands)


def _contest(commands: Iterable[Command]) -> Folded:
    folded = Folded()
    winners, losers = folded.winners, folded.losers
    seen: set[str] = set()
    for command in commands:
        if command.id in seen:
            folded.duplicates += 1
            continue
        seen.add(command.id)
        target = (command.resource, command.key)
        best = winners.get(target)
        if best is None:
            winners[target] = command
            continue
        if command.beats(best):
            winners[target], command = command, best  # noqa: PLW2901 - the loser goes on
        losers.setdefault(target, []).append(command)
        folded.superseded += 1
    return folded
