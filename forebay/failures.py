"""Failures: why archive objects could not be applied, for operators that examine dead letters.

A dead letter does not contain its reason. A failure is recorded if the database can be reached; an
object that failed because the database was away has none.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from forebay.db.connect import Connection

_MAX_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failure of an object."""

    error: str
    at: dt.datetime
    #: How often the object has failed.
    times: int


def record_failure(connection: Connection, key: str, error: str) -> None:
    """Record that an object could not be applied, and why."""
    text = error[:_MAX_CHARACTERS].replace("\x00", "")
    connection.execute(_RECORD, [key, text])


def read_failures(connection: Connection, keys: Sequence[str]) -> dict[str, Failure]:
    """The last failures of objects, by key, without objects that never failed."""
    rows = connection.execute(_FAILURES, [list(keys)]).fetchall()
    return {key: Failure(error, failed_at, times) for key, error, failed_at, times in rows}


_RECORD = """
    INSERT INTO forebay.failures AS f (object, error) VALUES (%s, %s)
    ON CONFLICT (object) DO UPDATE SET
      error = excluded.error, failed_at = clock_timestamp(), times = f.times + 1
"""
_FAILURES = """
    SELECT object, error, failed_at, times FROM forebay.failures WHERE object = ANY(%s)
"""
