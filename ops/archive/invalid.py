"""Describes invalid lines of archive objects: the object, the line's number and the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final, NamedTuple

from forebay.archive.lines import InvalidLine
from forebay.decisions.rejections import derive_line_id

#: The code of an empty file in a copied folder. Archive objects are never empty, so the file was
#: not copied completely.
EMPTY: Final = "object_empty"
#: The prefix of codes that concern a whole object instead of a line.
OF_OBJECTS: Final = "object_"
_MAX_DETAIL: Final = 200  # characters
#: The number of lines per object in a text; JSON results contain all lines.
_SHOWN: Final = 3


class LineFault(NamedTuple):
    """An invalid line and its place."""

    #: The id that a rejection of the line has, or would have.
    id: str
    object: str
    #: The line's number, from 1; blank lines do not count.
    line: int
    code: str
    detail: str

    @classmethod
    def of(cls, object_key: str, bad: InvalidLine) -> LineFault:
        """Return the description of an invalid line that was read from an object."""
        detail = bad.detail[:_MAX_DETAIL]
        return cls(derive_line_id(object_key, bad), object_key, bad.number + 1, bad.code, detail)

    @classmethod
    def of_empty(cls, object_key: str) -> LineFault:
        """Return the description of an empty object."""
        return cls.of(
            object_key, InvalidLine(0, b"", EMPTY, "the file is empty; an archive object never is")
        )

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result."""
        return self._asdict()

    def __str__(self) -> str:
        return f"line {self.line:,} of {self.object}"


def describe(lines: Iterable[LineFault]) -> Iterator[str]:
    """Yield one text per object: its name, its first invalid lines and their reasons."""
    for name, group in groupby(
        sorted(lines, key=lambda fault: fault[1:]), lambda fault: fault.object
    ):
        faults = list(group)
        texts = [f"line {fault.line:,}: {fault.code}: {fault.detail}" for fault in faults[:_SHOWN]]
        more = f"; and {len(faults) - _SHOWN:,} more lines" if len(faults) > _SHOWN else ""
        yield f"{name}: {'; '.join(texts)}{more}"
