"""Ids that an import gives its commands: a retry gives every line the same one again."""

from __future__ import annotations

import datetime as dt
import hashlib

from forebay.ids import join_id

_SEED_BITS = 40
_LINE_BITS = 33
#: More lines than any object of S3 can have.
MAX_LINE = (1 << _LINE_BITS) - 1


class ObjectIds:
    """Makes the ids of one version of one object.

    Their time is when the object was stored, so that whoever writes an item afterwards wins, also
    while the import is still running. Of two lines with the same key the later one wins.
    """

    def __init__(self, key: str, version: str, stored_at: dt.datetime) -> None:
        digest = hashlib.sha256(f"{key}\0{version}".encode()).digest()
        self._seed = int.from_bytes(digest, "big") >> (256 - _SEED_BITS)
        self._milliseconds = int(stored_at.timestamp() * 1000)
        #: The line that the next id is for.
        self.line = 0

    def make(self, *, create: bool, after: str | None = None) -> str:
        """The id of the current line; nothing comes `after` another here."""
        del after
        return self._of_line(self.line, create=create)

    def name(self, line: int) -> str:
        """Names the object that decides the lines from this one on, whatever their commands are."""
        return self._of_line(line, create=False)

    def _of_line(self, line: int, *, create: bool) -> str:
        bits = self._seed << (_LINE_BITS + 1) | line << 1 | create
        return join_id(self._milliseconds, bits)


def line_of(command_id: str) -> int:
    """The line of the file that a command of an import was made of."""
    return int(command_id.replace("-", ""), 16) >> 1 & MAX_LINE
