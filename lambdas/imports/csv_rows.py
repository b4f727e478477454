"""Reads the rows of a CSV file (RFC 4180), and distinguishes empty texts from empty cells.

This API, `psql` and other programs write an empty text as `""` and null as an empty cell. The
standard library's reader returns the same value for both.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from forebay.codec import MAX_LINE_BYTES
from forebay.errors import PermanentError

#: The common delimiters, each with its name in an object's metadata.
DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}

_QUOTED = re.compile(r'[^"]*(?:""[^"]*)*')
_BYTE_ORDER_MARK = "\ufeff"
_SHOWN = 20  # characters of a text in a message


class UnreadableFileError(PermanentError):
    """The file can't be read: none of its remaining rows are imported."""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one row; a null cell is None."""

    #: The number of the row's last line, from 1.
    line: int
    cells: list[str | None]


def read_rows(lines: Iterable[bytes], *, delimiter: str, null: str) -> Iterator[Row]:
    """Read the rows as a stream; empty lines are skipped.

    Args:
        lines: the file's lines, with their line ends.
        delimiter: the character between cells.
        null: the text of an unquoted cell that stands for null.

    Raises:
        UnreadableFileError: the file is not UTF-8, a quote is not closed or is followed by text,
            or a row is longer than 1,000 KiB. The message names the line.
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
        """The cells of a row with quotes; the row may continue in the following lines."""
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
        """The text up to the closing quote, the quote's line, and the place after the quote."""
        parts = []
        opened_in = self._number
        while True:
            found = _QUOTED.match(line, at)
            assert found is not None  # noqa: S101 - the pattern matches the empty text too
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
