"""Names the lines of archive objects that are no commands: object, line, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final, NamedTuple

from forebay.archive.lines import InvalidLine
from forebay.decisions.rejections import line_id

#: Code of an empty file in a copied folder. Nothing stores an empty object: it was never copied.
EMPTY: Final = "object_empty"
#: What the codes begin with that are about an object and not about a line of it.
OF_OBJECTS: Final = "object_"
_MAX_DETAIL: Final = 200  # characters
#: Lines of one object that a text names; JSON results have all of them.
_SHOWN: Final = 3


class LineFault(NamedTuple):
    """A line that is no command, and where it is."""

    #: Of its rejection, whether there is one or not.
    id: str
    object: str
    #: From 1; blank lines do not count.
    line: int
    code: str
    detail: str

    @classmethod
    def of(cls, object_key: str, bad: InvalidLine) -> LineFault:
        """Return the place of a line that an object was read with."""
        detail = bad.detail[:_MAX_DETAIL]
        return cls(line_id(object_key, bad), object_key, bad.number + 1, bad.code, detail)

    @classmethod
    def of_empty(cls, object_key: str) -> LineFault:
        """Return what stands for an object of no bytes."""
        return cls.of(object_key, InvalidLine(0, b"", EMPTY, "the file is empty, as no object is"))

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result."""
        return self._asdict()

    def __str__(self) -> str:
        return f"line {self.line:,} of {self.object}"


def describe(lines: Iterable[LineFault]) -> Iterator[str]:
    """Yield one text for each object: its name, its first invalid lines and why they are none."""
    for name, group in groupby(sorted(lines, key=lambda one: one[1:]), lambda one: one.object):
        found = list(group)
        named = [f"line {one.line:,}: {one.code}: {one.detail}" for one in found[:_SHOWN]]
        more = f"; and {len(found) - _SHOWN:,} more lines" if len(found) > _SHOWN else ""
        yield f"{name}: {'; '.join(named)}{more}"
