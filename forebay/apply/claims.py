"""Claims of unique values by the commands of a chunk: the command with the smaller id comes first.

Rows are written in groups, so without this order a put could claim a value before an older patch.
Compares JSON values; two spellings that only Postgres takes for equal are two values here, and
whichever is written first claims the value. Needs no database.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

from forebay.command import Command, KeyValue

#: The columns of each unique index or constraint of a table, except those of its key.
UniqueColumns = Sequence[Sequence[str]]


def find_rivals(
    unique_columns: UniqueColumns, commands: Iterable[Command]
) -> Mapping[KeyValue, Collection[KeyValue]]:
    """By key, the keys of the last older commands that claim its unique values.

    Args:
        unique_columns: of the resource's table.
        commands: of one resource. A patch that sets only a part of a unique index is left out.
    """
    rivals: dict[KeyValue, set[KeyValue]] = {}
    for names in unique_columns:
        claimants: dict[object, list[Command]] = defaultdict(list)
        for command in commands:
            values = _list_values(command, names)
            if values is not None:
                claimants[values].append(command)
        for group in claimants.values():
            if len(group) > 1:
                _add_rivals(rivals, group)
    return rivals


def _list_values(command: Command, names: Sequence[str]) -> tuple[object, ...] | None:
    """The values of the columns; None if the command does not set all of them, or if one is null.

    An increment claims no value that is known yet.
    """
    body = command.body or {}
    values = tuple([body.get(name) for name in names])
    return None if any(value is None or isinstance(value, dict) for value in values) else values


def _add_rivals(rivals: dict[KeyValue, set[KeyValue]], group: list[Command]) -> None:
    group.sort(key=lambda command: command.id)
    for earlier, later in pairwise(group):
        if earlier.key != later.key:
            rivals.setdefault(later.key, set()).add(earlier.key)
