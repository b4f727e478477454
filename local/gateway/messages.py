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
    """A client's request."""

    method: str
    #: Path with the stage, percent-encoded as the client sent it.
    path: str
    #: Without the question mark, percent-encoded as the client sent it.
    query_string: str
    #: By lower-case name, each once.
    headers: Mapping[str, str]
    #: The client's address.
    peer: str
    body: bytes = b""

    @classmethod
    def parse(
        cls, method: str, target: str, headers: Iterable[tuple[str, str]], *, peer: str
    ) -> Self:
        """The request for a target in origin form (`/v1/cities?limit=1`), as yet without a body."""
        path, _, query = target.partition("?")
        return cls(
            method=method,
            path=_encoded(path),
            query_string=_encoded(query),
            headers=fold(headers),
            peer=peer,
        )

    def with_body(self, body: bytes) -> Self:
        """The same request with its body."""
        return replace(self, body=body)

    @cached_property
    def query(self) -> tuple[tuple[str, str], ...]:
        """Decoded query parameters in their order; blank values count, as they do on AWS."""
        return tuple(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def header_bytes(self) -> int:
        """Total size of the headers, names included."""
        return sum(len(name) + len(value) for name, value in self.headers.items())


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
