"""A client's request and its answer, independent of any server or client library."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self
from urllib.parse import parse_qsl, quote

import orjson

from forebay.problem import CONTENT_TYPE, Problem

# All characters that RFC 3986 allows in a path and a query, and the percent sign of escapes.
_URI_CHARACTERS = "%/:@!$&'()*+,;=-._~?[]"

# RFC 9110 section 7.6.1, and older names that are still in use.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# The gateway sets these for the next hop; a client could fake its address with its own.
_NOT_SENT_ON = HOP_BY_HOP | {
    "content-length",
    "expect",
    "host",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
}
Headers = tuple[tuple[str, str], ...]


def fold(headers: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Map lower-case names to values; join repeated headers by commas (RFC 9110 section 5.2).

    The emulator passes the function the joined value, so the cache must key on the same value.
    """
    values: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        separator = "; " if lower == "cookie" else ", "
        # Bytes that are not UTF-8 can't be forwarded; use the forwarded value here, too.
        readable = value.encode(errors="surrogateescape").decode(errors="replace")
        values[lower] = f"{values[lower]}{separator}{readable}" if lower in values else readable
    return values


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """A client's request as it is forwarded; the only source of cache keys."""

    method: str
    #: Path with the stage, percent-encoded as the client sent it.
    path: str
    #: Without the question mark, percent-encoded as the client sent it.
    query_string: str
    #: The forwarded headers by lower-case name, each once.
    headers: Mapping[str, str]
    #: Total size of all received headers, with their names.
    header_bytes: int
    #: The client's address.
    peer: str
    body: bytes = b""

    @classmethod
    def parse(
        cls, method: str, target: str, headers: Iterable[tuple[str, str]], *, peer: str
    ) -> Self:
        """Parse a target in origin form (`/v1/cities?limit=1`); the body is added later."""
        path, _, query = target.partition("?")
        values = fold(headers)
        return cls(
            method=method,
            path=_encode(path),
            query_string=_encode(query),
            headers=_drop_hop_by_hop(values),
            header_bytes=sum(len(name) + len(value) for name, value in values.items()),
            peer=peer,
        )

    @cached_property
    def query(self) -> tuple[tuple[str, str], ...]:
        """The decoded query parameters in order, also those with blank values, as on AWS.

        They are encoded again when forwarded: the emulator might parse the client's text
        differently from the cache key.
        """
        return tuple(parse_qsl(self.query_string, keep_blank_values=True))


def _drop_hop_by_hop(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Drop hop-by-hop headers, including those that `Connection` names (RFC 9110 §7.6.1).

    They are dropped on arrival, not when forwarding: a header that the function never sees must not
    be part of a cache key, or a valid request's entry would hold the answer to another request.
    """
    connection = headers.get("connection", "").lower()
    hop_by_hop = _NOT_SENT_ON | {name.strip() for name in connection.split(",")}
    return {name: value for name, value in headers.items() if name not in hop_by_hop}


def _encode(text: str) -> str:
    """Percent-encode only the characters that are not allowed in a URI."""
    return quote(text, safe=_URI_CHARACTERS, errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that can be sent, or cached and sent again."""

    status: int
    #: A name may occur several times.
    headers: Headers
    body: bytes
    #: It is the answer of a function, which may be cached, whatever its status.
    is_of_function: bool = False

    def header(self, name: str) -> str | None:
        """Return the header's first value, or None."""
        lower = name.lower()
        return next((value for key, value in self.headers if key.lower() == lower), None)

    def adding(self, *headers: tuple[str, str]) -> "Answer":
        """Return the answer with more headers."""
        return replace(self, headers=(*self.headers, *headers))

    def without(self, names: frozenset[str]) -> "Answer":
        """Return the answer without the headers of these lower-case names."""
        return replace(
            self, headers=tuple(pair for pair in self.headers if pair[0].lower() not in names)
        )

    @property
    def size(self) -> int:
        """Size of the body and the headers in bytes."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers)


def build_problem_answer(problem: Problem, instance: str, **members: object) -> Answer:
    """Return the problem as an answer that caches don't store; `members` extend its document."""
    return Answer(
        problem.status,
        (
            ("Content-Type", CONTENT_TYPE),
            ("Cache-Control", "no-store"),
            *problem.headers.items(),
        ),
        orjson.dumps({**problem.document(instance), **members}),
    )


def make_request_id() -> str:
    """Return a new id, in the format that API Gateway gives every request."""
    return str(uuid.uuid4())
