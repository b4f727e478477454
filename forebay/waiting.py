"""Waiting commands: patches of keys without an item, counted for operators.

A patch waits until a create or put of its key arrives that is older than the patch
(`forebay.apply.edits.state`): usually for seconds, but for good if no such command was ever sent.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString, Self

from forebay.db.connect import Connection
from forebay.ids import accepted_ms

#: One row: the number of waiting commands, and the id, resource and key of the oldest. Both read
#: the partial index on `oldest`; counting stops at 100,000 keys to avoid a long scan.
WAITING: Final[LiteralString] = """
    SELECT (SELECT coalesce(sum(w.waiting), 0)::bigint
            FROM (SELECT waiting FROM forebay.edits
                  WHERE oldest IS NOT NULL LIMIT 100000) AS w),
           o.oldest::text, o.resource, o.key
    FROM (SELECT) AS one
    LEFT JOIN LATERAL (
      SELECT oldest, resource, key FROM forebay.edits
      WHERE oldest IS NOT NULL ORDER BY oldest LIMIT 1) AS o ON true
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many commands wait, and the oldest of them; None if none waits."""

    commands: int
    oldest: str | None = None
    resource: str | None = None
    key: str | None = None

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Self:
        """Read the row of `WAITING`."""
        return cls(*row)

    @classmethod
    def read(cls, connection: Connection) -> Self:
        """Count the waiting commands of a database."""
        row = connection.execute(WAITING).fetchone()
        assert row is not None  # noqa: S101 - the query returns one row
        return cls.of_row(row)

    def measure_age(self, now: dt.datetime) -> float | None:
        """Seconds since the oldest was accepted; None if none waits."""
        if self.oldest is None:
            return None
        return max(0.0, now.timestamp() - accepted_ms(self.oldest) / 1000)
