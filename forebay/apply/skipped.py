"""Which rows a `COPY … ON_ERROR ignore` has left out, as Postgres tells it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.errors import Diagnostic

from forebay.db.connect import Connection

# A notice for each such row; that of a server that speaks another language is not understood.
_SKIPPED = re.compile(r"skipping row due to data type incompatibility at line (\d+) for column ")


@contextmanager
def skipped_rows(connection: Connection) -> Iterator[list[int]]:
    """Collects, while a COPY with `LOG_VERBOSITY verbose` runs, the places of rows it leaves out.

    From 0, in the order in which they were sent. They are all that were left out if they are as
    many as are missing; else somebody has to look.
    """
    places: list[int] = []

    def note(said: Diagnostic) -> None:
        found = _SKIPPED.match(said.message_primary or "")
        if found:
            places.append(int(found[1]) - 1)

    connection.add_notice_handler(note)
    try:
        yield places
    finally:
        connection.remove_notice_handler(note)
