"""Parser for one-dimensional Postgres array literals: `{a,"b c"}`.

Syntax: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO.
"""

from __future__ import annotations

import re

_ELEMENT = re.compile(
    r"""\s*(?:"((?:[^"\\]|\\.)*)"|((?:[^\s"\\{},]|\\.)(?:(?:[^"\\{},]|\\.)*(?:[^\s"\\{},]|\\.))?))\s*""",
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_EMPTY = re.compile(r"\{\s*\}")


def read_array(text: str) -> tuple[str, ...]:
    """Return the elements of the literal, unescaped.

    Raises:
        ValueError: the text is not an array literal, is nested, or contains NULL.
    """
    text = text.strip()
    if _EMPTY.fullmatch(text):
        return ()
    if not (text.startswith("{") and text.endswith("}")):
        raise ValueError('is not a list in braces, such as {a,"b,c"}')
    return tuple(_read_elements(text))


def _read_elements(text: str) -> list[str]:
    values: list[str] = []
    place, end = 1, len(text) - 1
    while True:
        element = _ELEMENT.match(text, place, end)
        if element is None:
            raise ValueError('is not a list in braces, such as {a,"b,c"}')
        quoted, bare = element[1], element[2]
        if bare is not None and bare.upper() == "NULL":
            raise ValueError("contains NULL, which equals no value; use is.null")
        values.append(_ESCAPED.sub(r"\1", bare if quoted is None else quoted))
        place = element.end()
        if place == end:
            return values
        if text[place] != ",":
            raise ValueError('is not a list in braces, such as {a,"b,c"}')
        place += 1
