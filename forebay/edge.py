"""Texts of the edge's answers to refused queries, shared by CloudFront and the local gateway."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: Characters of a resource's name that answers quote; longer names get no suggestion.
LONGEST_NAME: Final = 48
#: Hint for PostgREST's names of filters on a place inside a JSON field.
HINT_JSON: Final = (
    "To filter by a path inside a JSON field, use and=(…) or or=(…): and=(field->>path.eq.5)."
)
#: Hint for names that no list declares: filters of an alias, or of a relation's relation.
HINT_RELATED: Final = (
    "To filter, order or limit the rows of an alias or of a nested relation, use and=(…): "
    "and=(alias.column.eq.5,alias.order.(column.desc),alias.limit.9). Undeclared names can't be "
    "part of the cache key; POST /query/{resource} accepts them."
)
#: Hint for a parameter given twice.
HINT_REPEATED: Final = "To filter one field twice, use and=(…)."


def find_nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name with the fewest differing letters; None if more than about a third differ.

    `edge_function.js` implements the same search in JavaScript; a test compares their results.
    """
    match, fewest = None, (len(name) + 1) // 3 + 1
    if len(name) > LONGEST_NAME:
        return None
    for candidate in sorted(known):
        letters = _count_differences(name, candidate)
        if letters < fewest:
            match, fewest = candidate, letters
    return match


def _count_differences(left: str, right: str) -> int:
    """The number of insertions, deletions and substitutions (Levenshtein's distance)."""
    row = list(range(len(right) + 1))
    for place, letter in enumerate(left, start=1):
        above, row[0] = row[0], place
        for column, expected in enumerate(right, start=1):
            changed = above + (letter != expected)
            above = row[column]
            row[column] = min(changed, above + 1, row[column - 1] + 1)
    return row[-1]
