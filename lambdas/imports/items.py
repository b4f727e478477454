"""Reads the items of a file: NDJSON, or CSV whose header names the fields."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import orjson

from forebay.codec import MAX_LINE_BYTES
from forebay.errors import PermanentError
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

#: Kinds that JSON says as text; a cell of any other kind is JSON itself: 5, true, ["a"].
_TEXTS = frozenset({Kind.TEXT, Kind.DATE, Kind.TIMESTAMP, Kind.UUID})


class UnreadableFileError(PermanentError):
    """The file as a whole can't be read: nothing of it, or nothing more of it, is imported."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item's JSON text and the line that it ends at, from 1."""

    line: int
    text: bytes
    #: Why the line is none.
    fault: str | None = None


def items(name: str, file: BinaryIO, spec: ResourceSpec) -> Iterator[Item]:
    """The items of a file, one after another; the file is never in memory as a whole.

    Args:
        name: says what is in it: `.ndjson`, `.csv`, and `.gz` behind that.
        file: its bytes.
        spec: of the resource; a CSV's cells are read by its fields.

    Raises:
        UnreadableFileError: not UTF-8, a line beyond all limits, or a header with other fields.
    """
    plain = name.removesuffix(".gz")
    source = gzip.GzipFile(fileobj=file) if plain != name else file
    try:
        if plain.endswith(".csv"):
            yield from _of_csv(source, spec)
        else:
            yield from _of_ndjson(source)
    except (UnicodeDecodeError, csv.Error, gzip.BadGzipFile, zlib.error, EOFError) as exc:
        raise UnreadableFileError(f"{name}: {exc}") from exc


def _of_ndjson(source: Iterable[bytes]) -> Iterator[Item]:
    for number, line in enumerate(_lines(source), start=1):
        text = line.strip()
        if text:
            yield Item(number, text)


def _of_csv(source: Iterable[bytes], spec: ResourceSpec) -> Iterator[Item]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    lines = _RowLines(source)
    rows = csv.reader(map(decoder.decode, lines), strict=True)
    columns = _columns(next(rows, []), spec)
    for row in rows:
        lines.size = 0
        if row and len(row) != len(columns):
            fault = f"{len(row)} cells instead of {len(columns)}"
            yield Item(rows.line_num, b"", fault)
        elif row:
            yield Item(rows.line_num, _json(columns, row))


def _lines(source: Iterable[bytes]) -> Iterator[bytes]:
    """Lines that end with a line feed; what has none for too long is no line."""
    assert isinstance(source, io.IOBase)  # noqa: S101 - both kinds of file are
    while line := source.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise UnreadableFileError(f"a line is longer than {MAX_LINE_BYTES} bytes")
        yield line


class _RowLines:
    """The lines of a file, of which a row may have several: as many as one line may be long."""

    def __init__(self, source: Iterable[bytes]) -> None:
        self._lines = _lines(source)
        #: Of those since it was last set to 0, when a row had ended.
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        """Raises UnreadableFileError for a row that does not end."""
        for line in self._lines:
            self.size += len(line)
            if self.size > MAX_LINE_BYTES:
                raise UnreadableFileError(f"a row is longer than {MAX_LINE_BYTES} bytes")
            yield line


def _columns(header: list[str], spec: ResourceSpec) -> list[FieldSpec]:
    known: Mapping[str, FieldSpec] = {column.name: column for column in spec.columns}
    unknown = [name for name in header if name not in known]
    if unknown or not header or len(set(header)) < len(header):
        raise UnreadableFileError(
            f"the header must name fields of {spec.path}, each once: {', '.join(known)}"
        )
    return [known[name] for name in header]


def _json(columns: list[FieldSpec], row: list[str]) -> bytes:
    """The row as an object. An empty cell is no member: the field's default, or missing."""
    members = [
        orjson.dumps(column.name) + b":" + _value(column, cell)
        for column, cell in zip(columns, row, strict=True)
        if cell
    ]
    return b"{" + b",".join(members) + b"}"


def _value(column: FieldSpec, cell: str) -> bytes:
    if column.kind in _TEXTS:
        return orjson.dumps(cell)
    try:
        orjson.loads(cell)
    except orjson.JSONDecodeError:
        return orjson.dumps(cell)  # which its validation then refuses by the field's name
    return cell.encode()
