"""Reads the items of a file: NDJSON, or CSV with field names in its header."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from forebay.codec import MAX_LINE_BYTES
from forebay.resource import spellings
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec
from lambdas.imports.csv_rows import DELIMITERS, Row, UnreadableFileError, read_rows
from lambdas.imports.formats import Dialect, SourceFile

#: Kinds with a string as their JSON value.
_TEXTS = frozenset({Kind.TEXT, Kind.DATE, Kind.TIMESTAMP, Kind.UUID})
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SHOWN = 100  # characters of a header in a message


@dataclass(frozen=True, slots=True)
class Item:
    """An item's JSON text and the number of its last line, from 1."""

    line: int
    text: bytes
    #: Why the line is not an item.
    fault: str | None = None


def read_items(file: SourceFile, spec: ResourceSpec) -> Iterator[Item]:
    """Read a file's items as a stream; the file is never in memory as a whole.

    Args:
        file: the file, with its format.
        spec: the resource; its fields determine how CSV cells are read.

    Raises:
        UnreadableFileError: the file is not UTF-8 or can't be inflated, a line is too long, or the
            header has unknown fields.
    """
    try:
        yield from _read_csv(file, spec) if file.form == "csv" else _read_ndjson(file.source)
    except (gzip.BadGzipFile, zlib.error, EOFError) as exc:
        raise UnreadableFileError(f"it can't be inflated: {exc}") from exc


def _read_ndjson(source: io.BufferedIOBase) -> Iterator[Item]:
    for number, line in enumerate(_read_lines(source), start=1):
        text = (line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line).strip()
        if text:
            yield Item(number, text)


def _read_csv(file: SourceFile, spec: ResourceSpec) -> Iterator[Item]:
    dialect = file.dialect
    rows = read_rows(_read_lines(file.source), delimiter=dialect.delimiter, null=dialect.null)
    columns = _read_columns(next(rows, Row(0, [])).cells, spec, dialect)
    for row in rows:
        if len(row.cells) == len(columns):
            yield Item(row.line, _encode_json(columns, row.cells, dialect))
        else:
            yield Item(row.line, b"", f"{len(row.cells)} cells instead of {len(columns)}")


def _read_lines(source: io.BufferedIOBase) -> Iterator[bytes]:
    """Read the lines; raise for a line above the size limit."""
    number = 1
    while line := source.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise UnreadableFileError(f"line {number} is longer than {MAX_LINE_BYTES} bytes")
        yield line
        number += 1


def _read_columns(
    header: Sequence[str | None], spec: ResourceSpec, dialect: Dialect
) -> list[FieldSpec | None]:
    """The field of each column; None for the nameless first column of row numbers (pandas)."""
    columns_by_name: Mapping[str, FieldSpec] = {column.name: column for column in spec.columns}
    names = [name or "" for name in header]
    is_numbered = len(names) > 1 and not names[0]
    column_names = names[1:] if is_numbered else names
    if (
        not column_names
        or len(set(column_names)) < len(column_names)
        or any(name not in columns_by_name for name in column_names)
    ):
        raise UnreadableFileError(_describe_header_fault(column_names, spec, dialect))
    return [*([None] if is_numbered else []), *(columns_by_name[name] for name in column_names)]


def _describe_header_fault(names: list[str], spec: ResourceSpec, dialect: Dialect) -> str:
    names_text = ", ".join(column.name for column in spec.columns)
    fault = f"the header must name fields of {spec.path}, each once: {names_text}"
    other = next((name for name in names if spec.column(name) is None), None)
    if other is None:
        twice = next((name for name in names if names.count(name) > 1), None)
        return f"{fault}; {f'it names {twice} twice' if twice else 'there is none'}"
    fault = f"{fault}; it has {other[:_SHOWN]!r}"
    for delimiter, word in DELIMITERS.items():
        parts = other.replace('"', "").split(delimiter)
        is_other = delimiter != dialect.delimiter and len(parts) > 1
        if is_other and any(spec.column(part.strip()) for part in parts):
            return (
                f"{fault}. Is the delimiter {delimiter!r}? Then store the file with the metadata "
                f"delimiter={word}"
            )
    return f"{fault}, and {dialect.delimiter!r} is the delimiter"


def _encode_json(
    columns: list[FieldSpec | None], cells: list[str | None], dialect: Dialect
) -> bytes:
    """The row as a JSON object."""
    members = []
    for column, cell in zip(columns, cells, strict=True):
        if column is None:
            continue
        value = _encode_value(column, cell, dialect)
        if value is not None:
            members.append(orjson.dumps(column.name) + b":" + value)
    return b"{" + b",".join(members) + b"}"


def _encode_value(column: FieldSpec, cell: str | None, dialect: Dialect) -> bytes | None:
    """JSON text of a cell; None omits the field, which then gets its default or is missing."""
    if cell is None or (cell == "" and column.kind is not Kind.TEXT):
        return b"null" if column.nullable else None
    if column.kind in _TEXTS:
        return orjson.dumps(cell)
    return _encode_unquoted(column.kind, cell, dialect) or orjson.dumps(cell)


def _encode_unquoted(kind: Kind, cell: str, dialect: Dialect) -> bytes | None:
    """JSON other than a string; None for an invalid cell, which validation reports later."""
    try:
        if kind is Kind.BOOLEAN:
            return b"true" if _read_boolean(cell, dialect) else b"false"
        if kind is Kind.INTEGER:
            return str(spellings.parse_integer(cell)).encode()
        if kind is Kind.FLOAT:
            spellings.parse_double(cell)
        elif kind is Kind.DECIMAL:
            spellings.parse_decimal(cell)
        else:
            orjson.loads(cell)
    except ValueError:
        return None
    return cell.encode()


def _read_boolean(cell: str, dialect: Dialect) -> bool:
    if cell in {dialect.true, dialect.false}:
        return cell == dialect.true
    return spellings.parse_boolean(cell)
