"""Check AWS signatures of version 4, in the header or in the query.

After "Signature Version 4 for API requests" in the IAM User Guide. If the request has the header
`x-amz-content-sha256`, its value is used as the hash of the payload: the signature covers it.
"""

import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from functools import lru_cache
from urllib.parse import quote, unquote

ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_PAYLOAD_HEADER = "x-amz-content-sha256"
_SKEW = dt.timedelta(minutes=15)
_MAX_EXPIRES_SECONDS = 7 * 24 * 60 * 60
_SCOPE_PARTS = 5


class SignatureError(Exception):
    """A request is not signed, or not with our key; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Request:
    """The signed parts of a request, as sent."""

    method: str
    #: Percent-encoded.
    path: str
    #: Percent-encoded, without the question mark.
    query: str
    #: Names in lower case.
    headers: Sequence[tuple[str, str]]

    def header(self, name: str) -> str | None:
        """Return the joined values of a header, or None."""
        values = [" ".join(value.split()) for key, value in self.headers if key == name]
        return ",".join(values) if values else None

    @property
    def parameters(self) -> Sequence[tuple[str, str]]:
        """The decoded names and values of the query."""
        pairs = [part.partition("=") for part in self.query.split("&") if part]
        return [(unquote(name), unquote(value)) for name, _, value in pairs]


@dataclass(frozen=True, slots=True)
class Signature:
    """A request's signature and its parameters."""

    signature: str
    #: Date, region and service.
    scope: tuple[str, str, str]
    signed_headers: str
    time: str
    #: The validity of a signature in the query; None in the header, where it is 15 minutes.
    expires_seconds: int | None = None

    @property
    def service(self) -> str:
        """The called service."""
        return self.scope[2]


def parse(request: Request) -> Signature:
    """Parse the request's signature.

    Raises:
        SignatureError: there is no signature, or it has another form.
    """
    parameters = dict(request.parameters)
    try:
        if "X-Amz-Signature" in parameters:
            return _parse_query(parameters)
        return _parse_header(request)
    except (KeyError, ValueError) as exc:
        raise SignatureError("the request is not signed by AWS Signature Version 4") from exc


def is_presigned(request: Request) -> bool:
    """Return whether the signature of a request to S3 is in its query."""
    return any(name == "X-Amz-Signature" for name, _ in request.parameters)


def is_form(request: Request) -> bool:
    """Return whether the request is the form of an upload, which has its signature as a field."""
    kind = (request.header("content-type") or "").partition(";")[0].strip().lower()
    return request.method == "POST" and kind == "multipart/form-data"


def check_form(request: Request, body: bytes, *, key: str) -> None:
    """Return if the policy of a form was signed with the key ("Browser-based uploads using POST").

    Raises:
        SignatureError: it has no signature, or was signed with another key.
    """
    fields = _parse_form(request, body)
    try:
        day, region, service = _parse_scope(fields["x-amz-credential"])
        policy, signature = fields["policy"], fields["x-amz-signature"]
    except (KeyError, ValueError) as exc:
        raise SignatureError("the form is not signed by AWS Signature Version 4") from exc
    expected = _sign(_derive_signing_key(key, day, region, service), policy).hex()
    if service != "s3" or not hmac.compare_digest(expected.encode(), signature.encode()):
        raise SignatureError("the form was signed with other credentials")


def _parse_form(request: Request, body: bytes) -> dict[str, str]:
    """The fields of a form, by lower-case name; without the file."""
    head = f"Content-Type: {request.header('content-type')}\r\n\r\n".encode("latin-1")
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    fields: dict[str, str] = {}
    for part in message.iter_parts() if message.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        if isinstance(name, str) and name != "file":
            content = part.get_payload(decode=True)
            fields[name.lower()] = content.decode("latin-1") if isinstance(content, bytes) else ""
    return fields


def needs_body(request: Request, signature: Signature) -> bool:
    """Return whether the signature covers the body's hash and the request does not contain it."""
    is_presigned_s3 = signature.expires_seconds is not None and signature.service == "s3"
    return request.header(_PAYLOAD_HEADER) is None and not is_presigned_s3


def check(
    request: Request, signature: Signature, *, key: str, body: bytes, now: dt.datetime
) -> None:
    """Return if the request was signed with the key.

    Raises:
        SignatureError: it was signed with another key, or too long ago, or without its host.
    """
    if "host" not in signature.signed_headers.split(";"):
        raise SignatureError("the header Host is not signed")
    _check_time(signature, now)
    canonical = _format_canonical_request(
        request, signature, _hash_payload(request, signature, body)
    )
    day, region, service = signature.scope
    to_sign = "\n".join(
        [
            ALGORITHM,
            signature.time,
            f"{day}/{region}/{service}/aws4_request",
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    expected = _sign(_derive_signing_key(key, day, region, service), to_sign).hex()
    if not hmac.compare_digest(expected.encode(), signature.signature.encode()):
        raise SignatureError(
            "the request was signed with other credentials, or modified in transit"
        )


def _parse_header(request: Request) -> Signature:
    algorithm, _, credentials = (request.header("authorization") or "").partition(" ")
    fields = dict(part.strip().split("=", 1) for part in credentials.split(","))
    if algorithm != ALGORITHM:
        raise ValueError(algorithm)
    return Signature(
        signature=fields["Signature"],
        scope=_parse_scope(fields["Credential"]),
        signed_headers=fields["SignedHeaders"],
        time=request.header("x-amz-date") or "",
    )


def _parse_query(parameters: Mapping[str, str]) -> Signature:
    if parameters["X-Amz-Algorithm"] != ALGORITHM:
        raise ValueError(parameters["X-Amz-Algorithm"])
    return Signature(
        signature=parameters["X-Amz-Signature"],
        scope=_parse_scope(parameters["X-Amz-Credential"]),
        signed_headers=parameters["X-Amz-SignedHeaders"],
        time=parameters["X-Amz-Date"],
        expires_seconds=int(parameters["X-Amz-Expires"]),
    )


def _parse_scope(credential: str) -> tuple[str, str, str]:
    parts = credential.split("/")
    if len(parts) != _SCOPE_PARTS:
        raise ValueError(credential)
    return parts[1], parts[2], parts[3]


def _check_time(signature: Signature, now: dt.datetime) -> None:
    try:
        signed = dt.datetime.strptime(signature.time, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    except ValueError as exc:
        raise SignatureError("the request has no valid time of its signature (X-Amz-Date)") from exc
    if signature.expires_seconds is None:
        lifetime = _SKEW
    else:
        lifetime = dt.timedelta(seconds=min(signature.expires_seconds, _MAX_EXPIRES_SECONDS))
    if not signed - _SKEW <= now <= signed + lifetime:
        raise SignatureError(f"the signature of {signature.time} is not valid now")


def _hash_payload(request: Request, signature: Signature, body: bytes) -> str:
    if needs_body(request, signature):
        return hashlib.sha256(body).hexdigest()
    return request.header(_PAYLOAD_HEADER) or _UNSIGNED


def _format_canonical_request(request: Request, signature: Signature, payload_hash: str) -> str:
    # S3 signs the path as sent; all other services encode it once more.
    path = request.path if signature.service == "s3" else quote(request.path, safe="/~")
    names = signature.signed_headers.split(";")
    headers = "".join(f"{name}:{request.header(name) or ''}\n" for name in names)
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in request.parameters
        if name != "X-Amz-Signature"
    )
    query = "&".join(f"{name}={value}" for name, value in pairs)
    return "\n".join(
        [request.method, path or "/", query, headers, signature.signed_headers, payload_hash]
    )


@lru_cache(maxsize=64)
def _derive_signing_key(key: str, day: str, region: str, service: str) -> bytes:
    signing_key = f"AWS4{key}".encode()
    for part in (day, region, service, "aws4_request"):
        signing_key = _sign(signing_key, part)
    return signing_key


def _sign(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
