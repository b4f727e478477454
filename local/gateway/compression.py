"""Content codings as in API Gateway: decompresses request bodies, compresses answers.

AWS: "Payload compression for REST APIs in API Gateway". Its codings are gzip, deflate and identity.
A body in another coding, or not in the coding that it declares, is answered 415. An answer is
compressed if the client names a coding (`*` is not enough), the function has not compressed it, and
it has the API's minimum size. The limit for plain bodies also applies to decompressed bodies.
"""

import gzip
import io
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from forebay.http import parse_weighted
from local.gateway.messages import Answer

#: Window bits of zlib: 15, plus 16 for gzip's header and trailer (zlib's manual).
_WINDOW_BITS: Final[Mapping[str, int]] = {"gzip": 31, "deflate": 15}
# The gateway shares the CPU with the rest of the stack; higher levels compress little better.
_LEVEL = 1


class BodyTooLargeError(Exception):
    """A body exceeds the gateway's limit, as received or decompressed."""


class UndecodableError(Exception):
    """A body is not in its declared coding, or that coding is unknown."""


def inflate(coding: str, body: bytes, *, max_bytes: int) -> bytes:
    """Decompress the body.

    Raises:
        BodyTooLargeError: it exceeds `max_bytes`; decompression stopped there.
        UndecodableError: it is not in that coding.
    """
    coding = coding.strip().lower()
    if coding not in _WINDOW_BITS:
        raise UndecodableError(f"unknown coding {coding!r}")
    try:
        if coding == "gzip":
            content = gzip.GzipFile(fileobj=io.BytesIO(body)).read(max_bytes + 1)
            is_whole = True
        else:
            decompressor = zlib.decompressobj()
            content = decompressor.decompress(body, max_bytes + 1)
            is_whole = decompressor.eof and not decompressor.unused_data
    except (OSError, EOFError, zlib.error) as exc:
        raise UndecodableError(str(exc)) from exc
    if len(content) > max_bytes:
        raise BodyTooLargeError
    if not is_whole:
        raise UndecodableError("it ends too early, or something follows it")
    return content


def compress(answer: Answer, accepted: str | None, *, min_bytes: int | None) -> Answer:
    """Compress the answer in the client's preferred coding, or return it unchanged.

    Without `min_bytes`, the API doesn't compress.
    """
    if min_bytes is None or not answer.body or len(answer.body) < min_bytes:
        return answer
    coding = _choose_coding(accepted or "")
    if coding is None or answer.header("content-encoding") is not None:
        return answer
    packing = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[coding])
    body = packing.compress(answer.body) + packing.flush()
    vary = answer.header("vary")
    headers = answer.without(frozenset({"vary"})).headers
    added = ("Vary", f"{vary}, Accept-Encoding" if vary else "Accept-Encoding")
    return replace(answer, headers=(*headers, ("Content-Encoding", coding), added), body=body)


def _choose_coding(accepted: str) -> str | None:
    """Return the coding with the greatest quality; prefer gzip, then deflate, then identity."""
    qualities = {name: quality for name, _, quality in parse_weighted(accepted)}
    coding = max(("gzip", "deflate"), key=lambda name: qualities.get(name, 0.0))
    quality = qualities.get(coding, 0.0)
    return coding if quality > 0 and quality >= qualities.get("identity", 0.0) else None
