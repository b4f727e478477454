"""Reads the rows of a CSV file (RFC 4180), and tells an empty text from a cell without any.

The standard library's reader does not tell `""` from nothing, which is how this API, `psql` and
others write an empty text and null.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from forebay.codec import MAX_LINE_BYTES
from forebay.errors import PermanentError

#: What commonly stands between cells, by the words that an object's metadata may have for it.
DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}

_QUOTED = re.compile(r'[^"]*(?:""[^"]*)*')
_BYTE_ORDER_MARK = "\ufeff"
_SHOWN = 20  # characters of a text in a message


class UnreadableFileError(PermanentError):
    """The file as a whole can't be read: nothing of it, or nothing more of it, is imported."""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one row; a cell that is null is None."""

    #: The last of the row's lines, from 1.
    line: int
    cells: list[str | None]


def read_rows(lines: Iterable[bytes], *, delimiter: str, null: str) -> Iterator[Row]:
    """The rows, one after another; empty lines are skipped.

    Args:
        lines: of the file, with their ends.
        delimiter: one character between cells.
        null: what a cell without quotes holds where there is no value.

    Raises:
        UnreadableFileError: not UTF-8, a quote that is not closed or is followed by text, or a row
            of more than 1,000 KiB. The message names the line.
    """
    return _Reader(lines, delimiter, null).rows()


class _Reader:
    def __init__(self, lines: Iterable[bytes], delimiter: str, null: str) -> None:
        self._lines = enumerate(lines, start=1)
        self._delimiter = delimiter
        self._null = null
        self._number = 0
        #: Bytes of the current row.
        self._size = 0

    def rows(self) -> Iterator[Row]:
        while True:
            self._size = 0
            line = self._next_line()
            if line is None:
                return
            text = _without_end(line)
            if '"' in text:
                yield Row(self._number, self._cells(line))
            elif text:
                cells = [self._bare(cell) for cell in text.split(self._delimiter)]
                yield Row(self._number, cells)

    def _next_line(self) -> str | None:
        found = next(self._lines, None)
        if found is None:
            return None
        self._number, data = found
        self._size += len(data)
        if self._size > MAX_LINE_BYTES:
            raise self._error(f"a row is longer than {MAX_LINE_BYTES} bytes")
        try:
            text = data.decode()
        except UnicodeDecodeError as exc:
            raise self._error(_encoding_fault(data, exc.start)) from None
        return text.removeprefix(_BYTE_ORDER_MARK) if self._number == 1 else text

    def _cells(self, line: str) -> list[str | None]:
        """The cells of a row that has quotes; the row may go on in the following lines."""
        cells: list[str | None] = []
        at, stop = 0, len(_without_end(line))
        while True:
            if line.startswith('"', at):
                text, line, at = self._quoted(line, at + 1)
                stop = len(_without_end(line))
                cells.append(text)
            else:
                end = line.find(self._delimiter, at, stop)
                end = stop if end < 0 else end
                cells.append(self._bare(line[at:end]))
                at = end
            if at >= stop:
                return cells
            if line[at] != self._delimiter:
                raise self._error(_behind_quote(line[at]))
            at += 1

    def _quoted(self, line: str, at: int) -> tuple[str, str, int]:
        """The text up to the closing quote, the line that has it, and the place behind it."""
        parts = []
        opened_in = self._number
        while True:
            found = _QUOTED.match(line, at)
            assert found is not None  # noqa: S101 - it may match nothing
            parts.append(found[0])
            if found.end() < len(line):
                return "".join(parts).replace('""', '"'), line, found.end() + 1
            following = self._next_line()
            if following is None:
                raise self._error(f"a quote that line {opened_in} opens is never closed")
            line, at = following, 0

    def _bare(self, cell: str) -> str | None:
        if "\r" in cell:
            raise self._error(
                "a carriage return outside quotes; end lines with LF or CRLF, and put quotes "
                f"around text that has one: {cell[:_SHOWN]!r}"
            )
        return None if cell == self._null else cell

    def _error(self, reason: str) -> UnreadableFileError:
        return UnreadableFileError(f"line {self._number}: {reason}")


def _behind_quote(char: str) -> str:
    fault = f"{char!r} follows the quote that ends a cell"
    word = DELIMITERS.get(char)
    if word is None:
        return fault
    return f"{fault}; is that the delimiter? Then store the file with the metadata delimiter={word}"


def _encoding_fault(data: bytes, at: int) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "the file is in UTF-16; save it as UTF-8"
    return f"its byte {at + 1}, 0x{data[at]:02x}, is no UTF-8 (utf-8 is the only encoding taken)"


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")
