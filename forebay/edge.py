"""What the edge says to a query that it refuses; CloudFront's and ours say the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: Characters of a resource's name in a request that are shown, and looked for.
LONGEST_NAME: Final = 48
#: Names of PostgREST that filter inside of JSON.
HINT_JSON: Final = (
    "A place inside a JSON field is filtered in and=(…) or or=(…): and=(field->>place.eq.5)."
)
#: Names that no list declares: those of an alias, and of a relation's relation.
HINT_RELATED: Final = (
    "Rows of an alias, or of a relation in a relation, are chosen in and=(…): "
    "and=(alias.column.eq.5,alias.order.(column.desc),alias.limit.9). A name that is free can't be "
    "a cache's key; POST /query/{resource} takes all of them."
)
#: A name given twice.
HINT_REPEATED: Final = "Two filters on one field go into and=(…)."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that differs in the fewest letters, and in no more than a third of them.

    `edge_function.js` has the same in its own language; a test compares what they find.
    """
    found, fewest = None, (len(name) + 1) // 3 + 1
    if len(name) > LONGEST_NAME:
        return None
    for candidate in sorted(known):
        letters = _different(name, candidate)
        if letters < fewest:
            found, fewest = candidate, letters
    return found


def _different(one: str, other: str) -> int:
    """How many letters have to be put in, left out or changed (Levenshtein's distance)."""
    row = list(range(len(other) + 1))
    for place, letter in enumerate(one, start=1):
        above, row[0] = row[0], place
        for column, wanted in enumerate(other, start=1):
            changed = above + (letter != wanted)
            above = row[column]
            row[column] = min(changed, above + 1, row[column - 1] + 1)
    return row[-1]
