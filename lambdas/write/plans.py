"""Plans of writes: the decision on a request, before any of its commands is sent."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from forebay.codec import decode_carefully
from forebay.http import Response
from forebay.intake.commands import Line

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
    refused: int = 0
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
                self.refused,
                self.is_whole,
            ]
        )
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
    stream = zlib.decompressobj(_LARGE_WINDOW)
    status, content_type, headers, body, refused, is_whole = orjson.loads(stream.decompress(answer))
    data = stream.decompress(lines)
    return Plan(
        Response(status, body, content_type=content_type, headers=headers),
        tuple(Line(decode_carefully(line), line) for line in data.splitlines(keepends=True)),
        refused,
        is_whole,
    )


def add_header(response: Response, name: str, value: str) -> Response:
    """Return the response with one more header."""
    return replace(response, headers={**response.headers, name: value})
