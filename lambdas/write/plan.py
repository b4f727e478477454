"""Plans of writes: the decision on a request, before any of its commands is sent."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from forebay.codec import decode_carefully
from forebay.command import Command
from forebay.http import Response
from forebay.intake.commands import Line

#: DynamoDB's price of a write is for each KB of the item, whose other attributes take 160 bytes.
_PLAIN_BYTES: Final = 840
#: Stand for the command's id and its item's key in a plain answer. JSON contains no such bytes.
_ID, _KEY = b"\x01", b"\x02"
#: Begins a plain answer. A compressed answer begins with another byte: its first block is not its
#: last, so the lowest bit is 0 (RFC 1951 §3.2.3).
_PLAIN: Final = b"="
# Windows of zlib, for small and for large contents: it allocates a small one in a quarter of the
# time.
_SMALL_BYTES: Final = 4 * 1024
_SMALL_WINDOW, _SMALL_MEMORY = -12, 5
_LARGE_WINDOW, _LARGE_MEMORY = -15, 8
_LEVEL: Final = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """The commands of a request, and the answer to send when all of them are accepted."""

    response: Response
    lines: Sequence[Line]
    #: The number of items that are refused.
    refused_count: int = 0
    #: True if the answer is 503 when any command is not accepted; otherwise it names the commands.
    is_whole: bool = True

    def encode(self) -> tuple[bytes, bytes]:
        """Encode the answer and the lines; together they take less space than apart."""
        response = self.response
        answer = orjson.dumps(
            [
                response.status,
                response.content_type,
                dict(response.headers),
                response.body,
                self.refused_count,
                self.is_whole,
            ]
        )
        if len(self.lines) == 1:
            plain = _shorten(answer, self.lines[0].command)
            if len(plain) + len(self.lines[0].data) <= _PLAIN_BYTES:
                return plain, self.lines[0].data
        lines = b"".join(line.data for line in self.lines)
        is_small = len(answer) + len(lines) < _SMALL_BYTES
        window, memory = (
            (_SMALL_WINDOW, _SMALL_MEMORY) if is_small else (_LARGE_WINDOW, _LARGE_MEMORY)
        )
        # One stream: the lines repeat ids and keys of the answer. The flush makes the first part
        # readable alone.
        stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, window, memory)
        return (
            stream.compress(answer) + stream.flush(zlib.Z_SYNC_FLUSH),
            stream.compress(lines) + stream.flush(),
        )


def decode_plan(answer: bytes, lines: bytes) -> Plan:
    """Decode a plan; without lines, its answer."""
    if answer.startswith(_PLAIN):
        text, data = _lengthen(answer), lines
    else:
        stream = zlib.decompressobj(_LARGE_WINDOW)
        text, data = stream.decompress(answer), stream.decompress(lines)
    status, content_type, headers, body, refused, is_whole = orjson.loads(text)
    return Plan(
        Response(status, body, content_type=content_type, headers=headers),
        tuple(Line(decode_carefully(line), line) for line in data.splitlines(keepends=True)),
        refused,
        is_whole,
    )


def _shorten(answer: bytes, command: Command) -> bytes:
    """The answer with one copy of the id and the key, which it repeats in links.

    This takes a tenth of the time of a compression.
    """
    command_id, key = command.id.encode(), str(command.key).encode(errors="replace")
    short = answer.replace(command_id, _ID)
    if key and _ID not in key:
        short = short.replace(key, _KEY)
    return _PLAIN + b"\n".join((short, command_id, key))


def _lengthen(answer: bytes) -> bytes:
    short, _, names = answer.removeprefix(_PLAIN).partition(b"\n")
    command_id, _, key = names.partition(b"\n")
    # In this order: a key may contain the other byte.
    return short.replace(_ID, command_id).replace(_KEY, key)


def add_header(response: Response, name: str, value: str) -> Response:
    """Return the response with one more header."""
    return replace(response, headers={**response.headers, name: value})
