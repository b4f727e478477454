"""One request as it came in and one answer as it goes out, free of any server or client library."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self
from urllib.parse import parse_qsl, quote

import orjson

from forebay.problem import CONTENT_TYPE, Problem

# Everything that RFC 3986 allows in a path and a query, and the percent sign of what is encoded.
_URI_CHARACTERS = "%/:@!$&'()*+,;=-._~?[]"

# RFC 9110 section 7.6.1, and the older names that are still met.
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
# Made anew for the next hop; whoever may write the forwarding ones may choose their own address.
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
    """Header values by lower-case name; a repeated one joined by commas (RFC 9110 section 5.2).

    The emulator hands the function one joined value, so the cache has to key on that same value.
    """
    folded: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        separator = "; " if lower == "cookie" else ", "
        # Bytes that are no UTF-8 can't be sent on as they are; what is sent on is what counts.
        readable = value.encode(errors="surrogateescape").decode(errors="replace")
        folded[lower] = f"{folded[lower]}{separator}{readable}" if lower in folded else readable
    return folded


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """A client's request, as it is sent on: cache keys are made of this and of nothing else."""

    method: str
    #: Path with the stage, percent-encoded as the client sent it.
    path: str
    #: Without the question mark, percent-encoded as the client sent it.
    query_string: str
    #: Those that are sent on, by lower-case name, each once.
    headers: Mapping[str, str]
    #: Total size of all headers that came, names included.
    header_bytes: int
    #: The client's address.
    peer: str
    body: bytes = b""

    @classmethod
    def parse(
        cls, method: str, target: str, headers: Iterable[tuple[str, str]], *, peer: str
    ) -> Self:
        """The request for a target in origin form (`/v1/cities?limit=1`), as yet without a body."""
        path, _, query = target.partition("?")
        folded = fold(headers)
        return cls(
            method=method,
            path=_encoded(path),
            query_string=_encoded(query),
            headers=_end_to_end(folded),
            header_bytes=sum(len(name) + len(value) for name, value in folded.items()),
            peer=peer,
        )

    def with_body(self, body: bytes) -> Self:
        """The same request with its body."""
        return replace(self, body=body)

    def without_header(self, name: str) -> Self:
        """The same request without the header of a lower-case name."""
        headers = {key: value for key, value in self.headers.items() if key != name}
        return replace(self, headers=headers)

    @cached_property
    def query(self) -> tuple[tuple[str, str], ...]:
        """Decoded query parameters in their order; blank values count, as they do on AWS.

        They are sent on, encoded anew: the emulator might take the client's text apart in another
        way than the cache key does.
        """
        return tuple(parse_qsl(self.query_string, keep_blank_values=True))


def _end_to_end(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Without the headers of one hop, among them those that `Connection` names (RFC 9110 §7.6.1).

    Dropped on arrival and not on the way out: a header that the function never sees must not be
    part of a cache key, or an honest client's entry would hold the answer to another request.
    """
    named = headers.get("connection", "").lower()
    dropped = _NOT_SENT_ON | {name.strip() for name in named.split(",")}
    return {name: value for name, value in headers.items() if name not in dropped}


def _encoded(text: str) -> str:
    """The text with only those characters percent-encoded that no URI may hold."""
    return quote(text, safe=_URI_CHARACTERS, errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that can be sent as it is, or kept and sent again."""

    status: int
    #: A name may occur several times.
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of the header, or None."""
        lower = name.lower()
        return next((value for key, value in self.headers if key.lower() == lower), None)

    @property
    def media_type(self) -> str:
        """Content type in lower case without its parameters; empty when there is none."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    def adding(self, *headers: tuple[str, str]) -> "Answer":
        """The answer with more headers."""
        return replace(self, headers=(*self.headers, *headers))

    def without(self, names: frozenset[str]) -> "Answer":
        """The answer without the headers of these lower-case names."""
        return replace(
            self, headers=tuple(pair for pair in self.headers if pair[0].lower() not in names)
        )

    @property
    def size(self) -> int:
        """Bytes of the body and the headers."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers)


def problem_answer(
    problem: Problem, instance: str, *, to_read: bool = False, **members: object
) -> Answer:
    """The problem as an answer that no cache keeps; `members` extend its document.

    To a read it has the members that PostgREST's clients look for.
    """
    document = problem.read_document(instance) if to_read else problem.document(instance)
    return Answer(
        problem.status,
        (
            ("Content-Type", CONTENT_TYPE),
            ("Cache-Control", "no-store"),
            *problem.headers.items(),
        ),
        orjson.dumps({**document, **members}),
    )


def new_request_id() -> str:
    """An id as API Gateway gives every request."""
    return str(uuid.uuid4())
