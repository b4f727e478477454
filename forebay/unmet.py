"""Unmet commands: rejected, because their condition or increment did not fit the item.

That is an answer to the client, as 412 would be, so no operator has to decide about it.
"""

from __future__ import annotations

from typing import Final, LiteralString

PRECONDITION_FAILED: Final = "precondition_failed"
INCREMENT_FAILED: Final = "increment_failed"
UNMET_CODES: Final = frozenset({PRECONDITION_FAILED, INCREMENT_FAILED})
#: Excludes unmet rejections. It is the predicate of a partial index, so a change needs a migration.
NOT_UNMET_SQL: Final[LiteralString] = "code NOT IN ('precondition_failed', 'increment_failed')"
