"""The words of the grammar: which parameters a list takes and which operators a column takes."""

from __future__ import annotations

from typing import Final

#: Query parameters of a list besides its columns. A new one belongs here first: from here it
#: becomes a route's parameter, a cache key, and visible to the read function.
LIST_PARAMETERS: Final = ("and", "cursor", "limit", "order")

#: Comparison operators and their SQL.
COMPARISONS: Final = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000  # rows; keeps a page below the stage cache's 1 MiB for usual rows
