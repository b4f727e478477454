"""Determines a file's format from its name, its metadata and its first bytes."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal, cast
from urllib.parse import unquote

from forebay.aws.archive import OpenObject
from lambdas.imports.csv_rows import DELIMITERS, UnreadableFileError

_ENDING: Final = re.compile(r".*[^/]\.(csv|tsv|ndjson|jsonl)(?:\.gz)?", re.IGNORECASE | re.DOTALL)
_WORDS: Final = {word: delimiter for delimiter, word in DELIMITERS.items()} | {"\\t": "\t"}
#: Transfer encodings that S3 keeps in `Content-Encoding`; the content is not encoded.
_NO_ENCODING: Final = frozenset({"", "identity", "aws-chunked"})
_GZIP_ENCODINGS: Final = frozenset({"gzip", "x-gzip"})
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Dialect:
    """The CSV dialect, from the metadata of the file's object."""

    delimiter: str = ","
    #: The text of an unquoted cell that stands for null.
    null: str = ""
    #: Spellings of booleans in addition to those that Postgres reads.
    true: str | None = None
    false: str | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, str], *, delimiter: str) -> Dialect:
        """Read `delimiter`, `null`, `true` and `false` of the metadata, percent-decoded.

        Raises:
            UnreadableFileError: a value that can't occur in a CSV file.
        """
        settings = {name: unquote(metadata[name]) for name in _NAMES if name in metadata}
        stated_delimiter = settings.get("delimiter", delimiter)
        dialect = cls(
            delimiter=_WORDS.get(stated_delimiter.lower(), stated_delimiter),
            null=settings.get("null", ""),
            true=settings.get("true"),
            false=settings.get("false"),
        )
        if len(dialect.delimiter) != 1 or dialect.delimiter in '"\r\n':
            raise UnreadableFileError(
                f"the metadata say delimiter={stated_delimiter!r}; it must be one character, or one"
                f" of {', '.join(DELIMITERS.values())}"
            )
        if any(char in dialect.null for char in ('"', "\r", "\n", dialect.delimiter)):
            raise UnreadableFileError(
                f"the metadata say null={dialect.null!r}, which no cell without quotes can hold"
            )
        return dialect


_NAMES: Final = ("delimiter", "null", "true", "false")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to import."""

    #: The uncompressed content.
    source: io.BufferedIOBase
    form: Literal["csv", "ndjson"]
    dialect: Dialect


def has_known_ending(name: str) -> bool:
    """Return True if files with this name's ending are imported."""
    return _match_ending(name) is not None


def open_source(name: str, opened: OpenObject) -> SourceFile:
    """Open the file of an object.

    Args:
        name: its ending determines the form: `.csv`, `.tsv`, `.ndjson` or `.jsonl`, optionally
            with `.gz`.
        opened: the object; its metadata describe the CSV dialect, its first bytes the compression.

    Raises:
        UnreadableFileError: the name, the encoding or the metadata are not supported.
    """
    ending = _match_ending(name)
    if ending is None:
        raise UnreadableFileError("its name does not say what is in it")
    is_table = ending in {"csv", "tsv"}
    dialect = (
        Dialect.of(opened.metadata, delimiter="\t" if ending == "tsv" else ",")
        if is_table
        else Dialect()
    )
    return SourceFile(_inflate(name, opened), "csv" if is_table else "ndjson", dialect)


def _match_ending(name: str) -> str | None:
    match = _ENDING.fullmatch(name)
    return match[1].lower() if match is not None else None


def _inflate(name: str, opened: OpenObject) -> io.BufferedIOBase:
    encodings = {part.strip().lower() for part in opened.encoding.split(",")}
    unknown_encodings = encodings - _NO_ENCODING - _GZIP_ENCODINGS
    if unknown_encodings:
        raise UnreadableFileError(
            f"Content-Encoding {min(unknown_encodings)!r} is not read; use gzip, or none"
        )
    file = cast("io.BufferedReader", opened.file)
    first_bytes = file.peek(len(_ZIP))
    if first_bytes.startswith(_ZIP):
        raise UnreadableFileError(
            "it is a ZIP archive, or a spreadsheet's own format; unpack it, or save it as CSV"
        )
    is_declared = name.lower().endswith(".gz") or bool(encodings & _GZIP_ENCODINGS)
    if is_declared or first_bytes.startswith(_GZIP):
        return gzip.GzipFile(fileobj=cast("BinaryIO", file))
    return file
