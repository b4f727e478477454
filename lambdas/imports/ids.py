"""Command ids of an import: each retry gives a line the same id."""

from __future__ import annotations

import datetime as dt
import hashlib

from forebay.ids import join_id

_SEED_BITS = 40
_LINE_BITS = 33
#: Above the number of lines that an S3 object can have.
MAX_LINE = (1 << _LINE_BITS) - 1


class ObjectIds:
    """Makes the ids for a version of an object.

    The ids' time is the time when the object was stored. So a write to an item after that wins,
    even while the import is running. Of two lines with the same key the later one wins.
    """

    def __init__(self, key: str, version: str, stored_at: dt.datetime) -> None:
        digest = hashlib.sha256(f"{key}\0{version}".encode()).digest()
        self._seed = int.from_bytes(digest, "big") >> (256 - _SEED_BITS)
        self._milliseconds = int(stored_at.timestamp() * 1000)
        #: The line of the next id.
        self.line = 0

    def make(self, *, create: bool, after: str | None = None, decided: bool = False) -> str:
        """The id of the current line; the other arguments are ignored."""
        del after, decided
        return self._make_line_id(self.line, create=create)

    def name(self, line: int) -> str:
        """The name of the object that decides lines from this one on; it ignores their commands."""
        return self._make_line_id(line, create=False)

    def _make_line_id(self, line: int, *, create: bool) -> str:
        bits = self._seed << (_LINE_BITS + 1) | line << 1 | create
        return join_id(self._milliseconds, bits)


def line_of(command_id: str) -> int:
    """The line of the file that an import's command was made from."""
    return int(command_id.replace("-", ""), 16) >> 1 & MAX_LINE
