"""Reads a write request: the caller, the headers and the body."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from forebay.conditional import EXISTS, parse_state_tag, parse_version
from forebay.http import MERGE_TYPE
from forebay.ids import MAX_AHEAD_MS, accepted_ms
from forebay.intake.commands import Origin
from forebay.keys import decode_segment
from forebay.problem import Problem, ProblemError

JSON_TYPES = frozenset({"application/json"})
PATCH_TYPES = JSON_TYPES | {MERGE_TYPE}
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
#: The media type by which PostgREST's clients request a single row.
OBJECT_TYPE = "application/vnd.pgrst.object+json"
ANONYMOUS = "anonymous"

_VERSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
# AWS: "Enable payload compression for an API in API Gateway".
_INFLATED_BY_GATEWAY = frozenset({"gzip", "deflate"})

#: Headers that a request may have several times.
_REPEATED: Final = ("prefer", "if-match", "read-after")
_MAX_IDEMPOTENCY_KEY = 255  # characters
# An sf-string (RFC 8941 §3.3.3) or, as many clients send it, the bare text.
_IDEMPOTENCY_KEY = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"|([!#-\[\]-~]+)')
# API Gateway replaces bytes that are not UTF-8 by this before it calls a function.
REPLACEMENT_CHARACTER = "\ufffd"
# An entity tag, or another word, in a list.
_LISTED = re.compile(r'(?:W/)?"[^"]*"|[^\s,"]+')
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class RequestBody:
    """The body of a request: an item, an array of items, or lines."""

    data: bytes
    #: True if API Gateway has decoded it, and may have replaced bytes that were not UTF-8.
    is_text: bool

    def find_damage(self, part: bytes) -> Problem | None:
        """Return the problem with a part of the body, or all of it, that may have replaced bytes.

        Returns:
            None if the bytes are those that the client sent.
        """
        if not self.is_text or REPLACEMENT_CHARACTER.encode() not in part:
            return None
        return Problem(
            "not_utf8",
            "there are bytes that are no UTF-8, or the character U+FFFD that stands for such; "
            "encode the text as UTF-8, and write that character as \\ufffd",
        )


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A write request."""

    path: str
    #: The route's declared path below the stage: `/cities/{key}`.
    route_path: str
    method: str
    #: Percent-decoded.
    path_parameters: Mapping[str, str]
    headers: Mapping[str, str]
    #: The values of every `Prefer` header; `headers` has the last one only.
    prefer: tuple[str, ...]
    #: The values of every `If-Match` header.
    if_match: tuple[str, ...]
    #: The values of every `Read-After` header.
    read_after: tuple[str, ...]
    query: Mapping[str, Any]
    event: Mapping[str, Any]
    max_body_bytes: int

    @classmethod
    def of_event(
        cls, event: Mapping[str, Any], prefix: str, *, max_body_bytes: int
    ) -> WriteRequest:
        """Read an API Gateway proxy event; `read_body` refuses a body above the limit."""
        headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
        repeated = _collect_values(event, headers)
        return cls(
            path=prefix + str(event.get("path") or ""),
            route_path=str(event.get("resource") or ""),
            method=str(event.get("httpMethod") or ""),
            path_parameters={
                name: decode_segment(value)
                for name, value in (event.get("pathParameters") or {}).items()
            },
            headers=headers,
            prefer=repeated["prefer"],
            if_match=repeated["if-match"],
            read_after=repeated["read-after"],
            query=event.get("multiValueQueryStringParameters")
            or event.get("queryStringParameters")
            or {},
            event=event,
            max_body_bytes=max_body_bytes,
        )

    def read_media_type(self) -> str:
        """The content type in lower case, without its parameters; empty if there is none."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    def accepts_object(self) -> bool:
        """Return True if a client of PostgREST expects one row as an object, not in an array."""
        return OBJECT_TYPE in self.headers.get("accept", "")

    def read_schema_version(self) -> int | None:
        """The schema version that the content type names: `application/json;schema=1`.

        Raises:
            ProblemError: the parameter is not a version, or is repeated.
        """
        versions = [
            value.strip().strip('"')
            for name, _, value in (
                part.partition("=") for part in self.headers.get("content-type", "").split(";")[1:]
            )
            if name.strip().lower() == "schema"
        ]
        if not versions:
            return None
        if len(versions) > 1 or not _VERSION.fullmatch(versions[0]):
            raise ProblemError(
                Problem(
                    "unsupported_media_type",
                    "the parameter schema of Content-Type is one schema version, such as 1",
                )
            )
        return int(versions[0])

    def read_body(self) -> RequestBody:
        """The body.

        Raises:
            ProblemError: the body has an unsupported encoding, is too large or empty, or contains
                text that UTF-8 can't encode.
        """
        text = self.event.get("body") or ""
        encoding = self.headers.get("content-encoding", "").strip().lower()
        if encoding not in {"", "identity"} and not self._is_inflated(encoding, text):
            raise ProblemError(_describe_encoding(encoding))
        if self.event.get("isBase64Encoded"):
            try:
                raw = base64.b64decode(text, validate=True)
            except binascii.Error as exc:
                raise ProblemError(Problem("malformed_json", f"the body: {exc}")) from None
            is_text = False
        else:
            raw, is_text = _encode(str(text)), True
        # The edge sees only `Content-Length`. A chunked body does not have it, and for a compressed
        # body it does not give the inflated size.
        if len(raw) > self.max_body_bytes:
            detail = f"the body is larger than {self.max_body_bytes} bytes; send smaller batches"
            raise ProblemError(Problem("payload_too_large", detail))
        # Editors and .NET write a byte order mark; RFC 8259 §8.1 permits a parser to ignore it.
        raw = raw.removeprefix(codecs.BOM_UTF8)
        if not raw.strip():
            raise ProblemError(Problem("empty_body", "send the item as JSON"))
        return RequestBody(raw, is_text=is_text)

    def _is_inflated(self, encoding: str, text: str) -> bool:
        """Return True if API Gateway has inflated the body; it never changes `Content-Encoding`.

        API Gateway bounds the inflated size, and so does the size limit of a function's event. An
        inflated body is text. Text that begins like zlib or gzip data was not inflated, because
        no JSON text begins so.
        """
        return (
            encoding in _INFLATED_BY_GATEWAY
            and not self.event.get("isBase64Encoded")
            and text[:1] not in {"\x1f", "x"}
        )

    def read_origin(self, now_ms: int) -> Origin:
        """The origin of the request's commands.

        Raises:
            ProblemError: a header is invalid.
        """
        trace = self.headers.get("traceparent", "")
        by = _read_identity(self.event.get("requestContext") or {})
        return Origin(
            by=by,
            trace=trace if _TRACEPARENT.fullmatch(trace) else None,
            idempotency_key=self._read_idempotency_key(),
            after=self._read_seen_version(now_ms),
            # Older releases named programs `user:`, and derived keys must not depend on the
            # release.
            key_owner=f"user:{by.removeprefix('client:')}" if by.startswith("client:") else by,
        )

    def must_not_exist(self) -> bool:
        """Return True if `If-None-Match: *` requests a create.

        Raises:
            ProblemError: it has another value, which a buffered write can't check, or the request
                also has `If-Match`.
        """
        value = self.headers.get("if-none-match")
        if value is None:
            return False
        if value.strip() != "*":
            raise ProblemError(
                Problem("bad_header", "a write takes If-None-Match only as `*` (RFC 9110 §13.1.2)")
            )
        if self.if_match:
            raise ProblemError(
                Problem("bad_header", "If-None-Match: * and If-Match can't both hold; send one")
            )
        return True

    def read_expected_tags(self) -> tuple[str, ...]:
        """The tags in `If-Match`, each once, as conditions have them; empty without the header.

        Raises:
            ProblemError: a tag is no item's tag.
        """
        if not self.if_match:
            return ()
        text = ",".join(self.if_match)
        is_list = not _LISTED.sub("", text).strip(", \t")
        tags = dict.fromkeys(map(read_tag, _LISTED.findall(text)))
        if not is_list or not tags or None in tags or (EXISTS in tags and len(tags) > 1):
            raise ProblemError(
                Problem(
                    "bad_header",
                    "If-Match must be `*`, or items' ETags, command ids or paths of statuses",
                )
            )
        return tuple(tag for tag in tags if tag is not None)

    def _read_idempotency_key(self) -> str | None:
        value = self.headers.get("idempotency-key")
        if value is None:
            return None
        match = _IDEMPOTENCY_KEY.fullmatch(value.strip())
        key = (match[1] if match[1] is not None else match[2]) if match else ""
        if not key or len(key) > _MAX_IDEMPOTENCY_KEY:
            raise ProblemError(
                Problem(
                    "bad_header",
                    f"Idempotency-Key is a string of 1 to {_MAX_IDEMPOTENCY_KEY} printable ASCII "
                    "characters, best in double quotes",
                )
            )
        return key

    def _read_seen_version(self, now_ms: int) -> str | None:
        """The greatest version that `If-Match` and `Read-After` name."""
        versions = [(v, "If-Match") for v in map(parse_version_tag, self.read_expected_tags()) if v]
        for after in self.read_after:
            version = parse_version(after)
            if version is None:
                expected = "one item's ETag, a command id, or the path of a command's status"
                raise ProblemError(Problem("bad_header", f"Read-After must name {expected}"))
            versions.append((version, "Read-After"))
        for version, header in versions:
            if is_ahead(version, now_ms):
                raise ProblemError(
                    Problem("bad_header", f"{header} names a version from the future: {version}")
                )
        return max(version for version, _ in versions) if versions else None


def read_tag(text: str) -> str | None:
    """The tag of a condition: `*`, or the state tag or the command id that the text names.

    Returns:
        None if the text is no item's entity tag, no command id and no path of a status.
    """
    if text.strip() == EXISTS:
        return EXISTS
    # A tag without its quotes must not lose its digest: the condition would hold more often.
    return parse_state_tag(text) or parse_state_tag(f'"{text.strip()}"') or parse_version(text)


def parse_version_tag(tag: str) -> str | None:
    """The version in a condition's tag; None for `*`."""
    return None if tag == EXISTS else tag.partition(".")[0]


def is_ahead(version: str | None, now_ms: int) -> bool:
    """Return True if a version is from the future, beyond the difference of clocks."""
    return version is not None and accepted_ms(version) > now_ms + MAX_AHEAD_MS


def _collect_values(
    event: Mapping[str, Any], headers: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """The values of each header of `_REPEATED`, by its lower-case name."""
    values: dict[str, tuple[str, ...]] = dict.fromkeys(_REPEATED, ())
    for key, header_values in (event.get("multiValueHeaders") or {}).items():
        name = key.lower()
        if name in values:
            values[name] += tuple(header_values)
    for name in _REPEATED:
        if not values[name] and name in headers:
            values[name] = (headers[name],)
    return values


def _encode(text: str) -> bytes:
    """Encode the text to the bytes that API Gateway decoded."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ProblemError(
            Problem("unstorable_text", "the body holds a surrogate without its partner")
        ) from None


def _describe_encoding(encoding: str) -> Problem:
    # RFC 9110 §12.5.3: a 415 that is caused by the content coding carries Accept-Encoding.
    return Problem(
        "unsupported_media_type",
        f"Content-Encoding {encoding[:80]!a} is not supported here; send the body in gzip or "
        "deflate, or as it is",
        headers={"Accept-Encoding": "gzip, deflate, identity"},
    )


def _read_identity(context: Mapping[str, Any]) -> str:
    """The caller according to API Gateway's authorizers, the strongest proof first."""
    authorizer = context.get("authorizer") or {}
    identity = context.get("identity") or {}
    claims = authorizer.get("claims") or {}
    subject, client = claims.get("sub"), claims.get("client_id")
    # The subject of a client-credentials token is the program that obtained it. A person's token
    # names the person, and also the program that the person uses (RFC 9068 §2.2).
    is_program = not subject or subject == client
    for kind, value in (
        ("client", client if is_program else None),
        ("user", subject),
        ("principal", authorizer.get("principalId")),
        ("iam", identity.get("userArn")),
        ("api-key", identity.get("apiKeyId")),
    ):
        if value:
            return f"{kind}:{value}"
    return ANONYMOUS


def check_media(request: WriteRequest, allowed: frozenset[str]) -> str:
    """Return the request's media type; refuse others than the allowed."""
    media = request.read_media_type()
    if media not in allowed:
        raise ProblemError(_describe_media(request, media, allowed))
    return media


def _describe_media(request: WriteRequest, media: str, allowed: frozenset[str]) -> Problem:
    description = f"Content-Type {media[:80]!a}" if media else "no content type"
    header = "Accept-Patch" if request.method == "PATCH" else "Accept-Post"
    return Problem(
        "unsupported_media_type",
        f"{description} is not supported here; send {', '.join(sorted(allowed))}",
        headers={header: ", ".join(sorted(allowed))},
    )
