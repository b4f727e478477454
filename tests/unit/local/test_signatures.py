"""Signatures of version 4 made by the project's SDK, and changes of each signed part."""

import datetime as dt
import io
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from local.signatures import Request, SignatureError, check, parse

KEY = "a" * 64
URL = "http://127.0.0.1:8081"
PATHS = st.text(st.characters(codec="ascii", categories=["L", "N"]) | st.sampled_from("-_.~%20/é:"))


def read(request: AWSPreparedRequest) -> tuple[Request, bytes]:
    parts = urlsplit(request.url)
    headers = [(str(name).lower(), _text(value)) for name, value in request.headers.items()]
    if not any(name == "host" for name, _ in headers):
        headers.append(("host", parts.netloc))
    body = request.body or b""
    if isinstance(body, io.IOBase):  # newer SDKs wrap the body of an S3 object
        body = body.read()
    if isinstance(body, str):
        body = body.encode()
    assert isinstance(body, bytes)
    return Request(str(request.method), parts.path, parts.query, headers), body


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def verify(request: Request, body: bytes, *, key: str = KEY, late: float = 0) -> None:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=late)
    check(request, parse(request), key=key, body=body, now=now)


def sent(service: str, operation: str, **arguments: Any) -> tuple[Request, bytes]:
    """Return the request that the SDK's client would send for an operation."""
    client = boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=URL,
        region_name="us-east-1",
        aws_access_key_id="000000000000",
        aws_secret_access_key=KEY,
        config=Config(s3={"addressing_style": "path"}),
    )
    seen: list[AWSPreparedRequest] = []

    class NotSentError(Exception):
        """Raised to end the call before the request is sent."""

    def note(request: AWSPreparedRequest, **_: Any) -> None:
        seen.append(request)
        raise NotSentError

    client.meta.events.register("before-send", note)
    with pytest.raises(NotSentError):
        getattr(client, operation)(**arguments)
    return read(seen[0])


CALLS = {
    "a form": ("sts", "get_caller_identity", {}),
    "JSON": ("sqs", "list_queues", {"QueueNamePrefix": "é a"}),
    "a path that is encoded twice": (
        *("lambda", "invoke"),
        {"FunctionName": "arn:aws:lambda:us-east-1:000000000000:function:x", "Payload": b"{}"},
    ),
    "a query": ("apigateway", "get_resources", {"restApiId": "a", "embed": ["methods"]}),
    "S3 with odd names": (
        *("s3", "put_object"),
        {"Bucket": "bucket", "Key": "a b/ü+=&?%2F'(*)", "Body": b"content", "Metadata": {"a": "b"}},
    ),
    "a list of S3": ("s3", "list_objects_v2", {"Bucket": "bucket", "Prefix": "a/ü b+c&="}),
    "Firehose": (
        *("firehose", "put_record"),
        {"DeliveryStreamName": "x", "Record": {"Data": b"x"}},
    ),
}


@pytest.mark.parametrize(("service", "operation", "arguments"), CALLS.values(), ids=CALLS)
def test_a_signature_of_the_sdk_is_accepted_and_one_with_another_key_refused(
    service: str, operation: str, arguments: dict[str, Any]
) -> None:
    request, body = sent(service, operation, **arguments)
    verify(request, body)
    with pytest.raises(SignatureError, match="other credentials"):
        verify(request, body, key="b" * 64)
    with pytest.raises(SignatureError, match="other credentials"):
        verify(replace(request, method="DELETE"), body)
    with pytest.raises(SignatureError, match="other credentials"):
        verify(replace(request, path=f"{request.path}x"), body)
    with pytest.raises(SignatureError, match="other credentials"):
        verify(replace(request, query=f"{request.query}&x=1"), body)
    with pytest.raises(SignatureError, match="not valid now"):
        verify(request, body, late=16 * 60)
    if service != "s3":  # its clients sign a hash of the body, and S3 compares it
        with pytest.raises(SignatureError, match="other credentials"):
            verify(request, body + b"x")


@given(path=PATHS, name=st.text(max_size=5), value=st.text(max_size=5))
@pytest.mark.parametrize("auth", [SigV4Auth, S3SigV4Auth, SigV4QueryAuth])
def test_any_path_and_query_that_the_sdk_signs_is_accepted(
    auth: type[SigV4Auth], path: str, name: str, value: str
) -> None:
    segments = [part for part in path.split("/") if part.strip(".")]
    sent_path = quote("/".join(segments), safe="/~")
    query = f"n{quote(name, safe='')}={quote(value, safe='')}"
    aws_request = AWSRequest("GET", f"{URL}/{sent_path}?{query}")
    service = "s3" if auth is S3SigV4Auth else "sqs"
    auth(Credentials("000000000000", KEY), service, "us-east-1").add_auth(aws_request)
    request, body = read(aws_request.prepare())
    verify(request, body)


def test_a_presigned_url_is_accepted_until_it_expires() -> None:
    client = boto3.client(
        "s3",
        endpoint_url=URL,
        region_name="us-east-1",
        aws_access_key_id="000000000000",
        aws_secret_access_key=KEY,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    url = client.generate_presigned_url(
        "get_object", Params={"Bucket": "bucket", "Key": "a b"}, ExpiresIn=3600
    )
    request, body = read(AWSRequest("GET", url).prepare())
    verify(request, body, late=3500)
    with pytest.raises(SignatureError, match="not valid now"):
        verify(request, body, late=3700)
    with pytest.raises(SignatureError, match="other credentials"):
        verify(request, body, key="b" * 64)


@pytest.mark.parametrize(
    "authorization",
    [
        *(None, "", "Bearer x", "Basic dGVzdDp0ZXN0", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 x=y"),
        "AWS4-HMAC-SHA256 Credential=test, SignedHeaders=host, Signature=x",
        "AWS4-HMAC-SHA512 Credential=a/b/c/d/e, SignedHeaders=host, Signature=x",
    ],
)
def test_unsigned_requests_are_refused(authorization: str | None) -> None:
    headers = [("host", "127.0.0.1:8081")]
    if authorization is not None:
        headers.append(("authorization", authorization))
    with pytest.raises(SignatureError, match="not signed"):
        verify(Request("GET", "/", "", headers), b"")


def test_a_signature_that_leaves_out_the_host_is_refused() -> None:
    request, body = sent("sts", "get_caller_identity")
    headers = [
        (n, v.replace(";host", "") if n == "authorization" else v) for n, v in request.headers
    ]
    with pytest.raises(SignatureError, match="Host"):
        verify(replace(request, headers=headers), body)
