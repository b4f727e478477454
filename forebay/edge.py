"""What the edge says to a query that it refuses; CloudFront's and ours say the same."""

from __future__ import annotations

from typing import Final

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
