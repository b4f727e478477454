"""Claims of unique values by the commands of a chunk: the oldest claim comes first.

Rows are written in groups, so without this order a put could claim a value before an older patch.
Compares JSON values; of two spellings that only Postgres takes for equal, the one that is written
first claims the value. Needs no database.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Self

from forebay.apply.edits.state import KeyState
from forebay.command import Command, KeyValue

#: The columns of each unique index or constraint of a table, except those of its key.
UniqueColumns = Sequence[Sequence[str]]


class Claim(NamedTuple):
    """The fields of a key that are to be set, which may be unique."""

    key: KeyValue
    #: As JSON values.
    values: Mapping[str, Any]
    #: By field, the id of the command that sets it.
    ids: Mapping[str, str]

    @classmethod
    def of_command(cls, command: Command) -> Self:
        """The claim of a put, create or patch."""
        body = command.body or {}
        return cls(command.key, body, dict.fromkeys(body, command.id))

    @classmethod
    def of_state(cls, key: KeyValue, state: KeyState) -> Self:
        """The claim of a key's state: the fields that are to be written."""
        if state.base is None or state.base.is_delete:
            return cls(key, {}, {})
        names = state.changed if state.new_base is None else state.values
        base_id = state.base.id
        return cls(
            key,
            {name: state.values[name] for name in names},
            {name: state.fields.get(name, base_id) for name in names},
        )


def find_rivals(
    unique_columns: UniqueColumns, claims: Sequence[Claim]
) -> Mapping[KeyValue, Collection[KeyValue]]:
    """By key, the keys with the oldest claims of its unique values, if those are other keys.

    A claim that sets only a part of a unique index's columns is left out.
    """
    rivals: dict[KeyValue, set[KeyValue]] = {}
    for names in unique_columns:
        claimants: dict[object, list[tuple[str, KeyValue]]] = defaultdict(list)
        for claim in claims:
            values = tuple([claim.values.get(name) for name in names])
            # Nulls are distinct, an increment's sum is not known yet, and Postgres compares JSON.
            if not any(value is None or isinstance(value, dict | list) for value in values):
                claim_id = max([claim.ids[name] for name in names])
                claimants[values].append((claim_id, claim.key))
        for group in claimants.values():
            if len(group) > 1:
                _, oldest = min(group)
                for _, key in group:
                    if key != oldest:
                        rivals.setdefault(key, set()).add(oldest)
    return rivals
