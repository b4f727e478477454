"""What the edge says to a query that it refuses; CloudFront's and ours say the same."""

from __future__ import annotations

from typing import Final

#: Names of PostgREST that filter inside of JSON.
HINT_JSON: Final = "A place inside a JSON field is filtered in and=(…) or or=(…)."
#: A name given twice.
HINT_REPEATED: Final = "Two filters on one field go into and=(…)."
