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
            line = self._read_next_line()
            if line is None:
                return
            text = _remove_end(line)
            if '"' in text:
                yield Row(self._number, self._read_cells(line))
            elif text:
                cells = [self._read_bare(cell) for cell in text.split(self._delimiter)]
                yield Row(self._number, cells)

    def _read_next_line(self) -> str | None:
        numbered_line = next(self._lines, None)
        if numbered_line is None:
            return None
        self._number, data = numbered_line
        self._size += len(data)
        if self._size > MAX_LINE_BYTES:
            raise self._build_error(f"a row is longer than {MAX_LINE_BYTES} bytes")
        try:
            text = data.decode()
        except UnicodeDecodeError as exc:
            raise self._build_error(_describe_encoding_fault(data, exc.start)) from None
        return text.removeprefix(_BYTE_ORDER_MARK) if self._number == 1 else text

    def _read_cells(self, line: str) -> list[str | None]:
        """The cells of a row with quotes; the row may continue in the following lines."""
        cells: list[str | None] = []
        place, stop = 0, len(_remove_end(line))
        while True:
            if line.startswith('"', place):
                text, line, place = self._read_quoted(line, place + 1)
                stop = len(_remove_end(line))
                cells.append(text)
            else:
                end = line.find(self._delimiter, place, stop)
                end = stop if end < 0 else end
                cells.append(self._read_bare(line[place:end]))
                place = end
            if place >= stop:
                return cells
            if line[place] != self._delimiter:
                raise self._build_error(_describe_behind_quote(line[place]))
            place += 1

    def _read_quoted(self, line: str, place: int) -> tuple[str, str, int]:
        """The text up to the closing quote, the quote's line, and the place after the quote."""
        parts = []
        opened_in = self._number
        while True:
            match = _QUOTED.match(line, place)
            assert match is not None  # noqa: S101 - the pattern matches the empty text too
            parts.append(match[0])
            if match.end() < len(line):
                return "".join(parts).replace('""', '"'), line, match.end() + 1
            following = self._read_next_line()
            if following is None:
                raise self._build_error(f"a quote that line {opened_in} opens is never closed")
            line, place = following, 0

    def _read_bare(self, cell: str) -> str | None:
        if "\r" in cell:
            raise self._build_error(
                "a carriage return outside quotes; end lines with LF or CRLF, and put quotes "
                f"around text that has one: {cell[:_SHOWN]!r}"
            )
        return None if cell == self._null else cell

    def _build_error(self, reason: str) -> UnreadableFileError:
        return UnreadableFileError(f"line {self._number}: {reason}")


def _describe_behind_quote(char: str) -> str:
    fault = f"{char!r} follows the quote that ends a cell"
    word = DELIMITERS.get(char)
    if word is None:
        return fault
    return f"{fault}; is that the delimiter? Then store the file with the metadata delimiter={word}"


def _describe_encoding_fault(data: bytes, place: int) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "the file is in UTF-16; save it as UTF-8"
    return (
        f"its byte {place + 1}, 0x{data[place]:02x}, is no UTF-8 (utf-8 is the only encoding taken)"
    )


def _remove_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")
