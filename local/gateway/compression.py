"""Content codings as API Gateway has them: inflates bodies of requests, compresses answers.

AWS: "Payload compression for REST APIs in API Gateway". Its codings are gzip, deflate and identity.
A body in another one, or none of the one it names, is a 415. An answer is compressed if the client
names a coding (`*` is not enough), the function has not compressed it, and it has the API's
minimum size. The size of an inflated body is bounded like that of a plain one.
"""

import re
import zlib
from collections.abc import Mapping
from typing import Final

from local.gateway.messages import Answer

#: Window bits of zlib: 15, and 16 more for the header and the trailer of gzip (zlib's manual).
_WINDOW_BITS: Final[Mapping[str, int]] = {"gzip": 31, "deflate": 15}
# Each costs a copy of what follows it. Packers of blocks make one for each 64 KiB.
_MAX_MEMBERS = 256
# The gateway shares its processor with the rest of the stack; higher levels pack little better.
_LEVEL = 1
_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")  # RFC 9110 §12.4.2


class BodyTooLargeError(Exception):
    """A body is larger than the gateway takes, as it came or inflated."""


class UndecodableError(Exception):
    """A body is not in the coding that it names, or that coding is not known."""


def inflated(coding: str, body: bytes, *, max_bytes: int) -> bytes:
    """The body without its coding.

    Raises:
        BodyTooLargeError: it has more than `max_bytes`; no more than those were inflated.
        UndecodableError: it is not in that coding.
    """
    window_bits = _WINDOW_BITS.get(coding.strip().lower())
    if window_bits is None:
        raise UndecodableError(f"there is no coding {coding!r}")
    parts, size, rest = [], 0, body
    for _ in range(_MAX_MEMBERS):
        unpacking = zlib.decompressobj(window_bits)
        try:
            parts.append(unpacking.decompress(rest, max_bytes - size + 1))
        except zlib.error as exc:
            raise UndecodableError(str(exc)) from exc
        size += len(parts[-1])
        if size > max_bytes:
            raise BodyTooLargeError
        rest = unpacking.unused_data
        if not unpacking.eof or (rest and coding.strip().lower() != "gzip"):
            break
        if not rest:
            return b"".join(parts)
    raise UndecodableError("it ends too early, something follows it, or it has too many members")


def compressed(answer: Answer, accepted: str | None, *, min_bytes: int | None) -> Answer:
    """The answer in the coding that the client wants most, or as it is.

    Args:
        answer: as the function or the cache has it.
        accepted: the request's `Accept-Encoding`.
        min_bytes: the API's minimum size; None where it compresses nothing.
    """
    if min_bytes is None or not answer.body or len(answer.body) < min_bytes:
        return answer
    coding = _wanted(accepted or "")
    if coding is None or answer.header("content-encoding") is not None:
        return answer
    packing = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[coding])
    body = packing.compress(answer.body) + packing.flush()
    vary = answer.header("vary")
    headers = answer.without(frozenset({"vary"})).headers
    return Answer(
        answer.status,
        (
            *headers,
            ("Content-Encoding", coding),
            ("Vary", f"{vary}, Accept-Encoding" if vary else "Accept-Encoding"),
        ),
        body,
    )


def _wanted(accepted: str) -> str | None:
    """The coding with the greatest quality; of equals gzip, and identity last."""
    qualities: dict[str, float] = {}
    for item in accepted.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                value = value.strip()
                quality = float(value) if _QUALITY.fullmatch(value) else 0.0
        qualities[name] = quality
    coding = max(("gzip", "deflate"), key=lambda name: qualities.get(name, 0.0))
    quality = qualities.get(coding, 0.0)
    return coding if quality > 0 and quality >= qualities.get("identity", 0.0) else None
