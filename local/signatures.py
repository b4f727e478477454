"""Check AWS signatures of version 4: in a header, in the query, or in the form of an upload.

botocore computes the expected signature of the same request. If the header `x-amz-content-sha256`
is signed, its value is used as the hash of the payload.
"""

import datetime as dt
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import quote, unquote, urlencode

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from forebay.signing import ALGORITHM

_SKEW = dt.timedelta(minutes=15)
_MAX_EXPIRES_SECONDS = 7 * 24 * 60 * 60


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
        values = [value for key, value in self.headers if key == name]
        return ",".join(values) if values else None

    @property
    def parameters(self) -> Sequence[tuple[str, str]]:
        """The decoded names and values of the query."""
        pairs = [part.partition("=") for part in self.query.split("&") if part]
        return [(unquote(name), unquote(value)) for name, _, value in pairs]

    @property
    def is_presigned(self) -> bool:
        """Whether the signature is in the query."""
        return any(name == "X-Amz-Signature" for name, _ in self.parameters)

    @property
    def is_form(self) -> bool:
        """Whether the request is the form of an upload, which has its signature as a field."""
        kind = (self.header("content-type") or "").partition(";")[0].strip().lower()
        return self.method == "POST" and kind == "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Signature:
    """A request's signature and its parameters."""

    signature: str
    region: str
    service: str
    signed_headers: Sequence[str]
    time: str
    #: The validity of a signature in the query; None in the header, where it is 15 minutes.
    expires_seconds: int | None


def parse(request: Request) -> Signature:
    """Parse the signature of a request that is not a form.

    Raises:
        SignatureError: there is no signature, or it has another form.
    """
    try:
        fields = _read_fields(request)
        _, _, region, service, _ = fields["X-Amz-Credential"].split("/")
        return Signature(
            signature=fields["X-Amz-Signature"],
            region=region,
            service=service,
            signed_headers=fields["X-Amz-SignedHeaders"].split(";"),
            time=fields["X-Amz-Date"],
            expires_seconds=int(fields["X-Amz-Expires"]) if request.is_presigned else None,
        )
    except (KeyError, ValueError) as exc:
        raise SignatureError("the request is not signed by AWS Signature Version 4") from exc


def check(
    request: Request, signature: Signature, *, key: str, body: bytes, now: dt.datetime
) -> None:
    """Return if the request was signed with the key.

    Raises:
        SignatureError: it was signed with another key, or too long ago, or without its host.
    """
    if "host" not in signature.signed_headers:
        raise SignatureError("the header Host is not signed")
    _check_time(signature, now)
    kind = SigV4Auth
    if signature.service == "s3":
        kind = S3SigV4QueryAuth if request.is_presigned else S3SigV4Auth
    signer = kind(Credentials("", key), signature.service, signature.region)
    parameters = [pair for pair in request.parameters if pair[0] != "X-Amz-Signature"]
    signed = AWSRequest(
        request.method,
        f"http://host{request.path or '/'}?{urlencode(parameters, quote_via=quote)}",
        {name: request.header(name) or "" for name in signature.signed_headers},
        body,
    )
    signed.context["timestamp"] = signature.time
    text = signer.string_to_sign(signed, signer.canonical_request(signed))
    if not _is_equal(signer.signature(text, signed), signature.signature):
        raise SignatureError(
            "the request was signed with other credentials, or modified in transit"
        )


def check_form(request: Request, body: bytes, *, key: str) -> None:
    """Return if the policy of a form was signed with the key ("Browser-based uploads using POST").

    Raises:
        SignatureError: it has no signature, or was signed with another key.
    """
    fields = _parse_form(request, body)
    try:
        _, day, region, service, _ = fields["x-amz-credential"].split("/")
        policy, signature = fields["policy"], fields["x-amz-signature"]
    except (KeyError, ValueError) as exc:
        raise SignatureError("the form is not signed by AWS Signature Version 4") from exc
    signed = AWSRequest()
    signed.context["timestamp"] = day
    expected = SigV4Auth(Credentials("", key), service, region).signature(policy, signed)
    if service != "s3" or not _is_equal(expected, signature):
        raise SignatureError("the form was signed with other credentials")


def _read_fields(request: Request) -> dict[str, str]:
    """Return the fields of the query, or those of the header `Authorization` under the same names.

    Raises:
        KeyError, ValueError: there are no such fields.
    """
    fields = dict(request.parameters)
    if not request.is_presigned:
        algorithm, _, credentials = (request.header("authorization") or "").partition(" ")
        parts = dict(part.strip().split("=", 1) for part in credentials.split(","))
        fields = {f"X-Amz-{name}": value for name, value in parts.items()}
        fields |= {"X-Amz-Algorithm": algorithm, "X-Amz-Date": request.header("x-amz-date") or ""}
    if fields["X-Amz-Algorithm"] != ALGORITHM:
        raise ValueError(fields["X-Amz-Algorithm"])
    return fields


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


def _check_time(signature: Signature, now: dt.datetime) -> None:
    try:
        signed = dt.datetime.strptime(signature.time, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    except ValueError as exc:
        raise SignatureError("the request has no valid time of its signature (X-Amz-Date)") from exc
    lifetime = _SKEW
    if signature.expires_seconds is not None:
        lifetime = dt.timedelta(seconds=min(signature.expires_seconds, _MAX_EXPIRES_SECONDS))
    if not signed - _SKEW <= now <= signed + lifetime:
        raise SignatureError(f"the signature of {signature.time} is not valid now")


def _is_equal(expected: str, signature: str) -> bool:
    return hmac.compare_digest(expected.encode(), signature.encode())
