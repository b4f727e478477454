"""The requests that reach the emulator, an application that records its calls."""

import asyncio
import datetime as dt
from collections.abc import MutableMapping, Sequence
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from forebay.attachments import Bucket, Upload
from forebay.resource import Media
from forebay.signing import Credentials, Signer
from local.credentials import OWN_KEY_HEADER, derive_own_key
from local.emulator_front import Front
from tests.fixtures.attachments import encode_form

KEY = "a" * 64
HOST = "127.0.0.1:8081"
FUNCTIONS = "/2015-03-31/functions"
Headers = Sequence[tuple[str, str]]


class Recorder:
    """An ASGI application that records its calls."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            self.bodies.append((await receive())["body"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})


def call(
    headers: Headers,
    *,
    method: str = "POST",
    path: str = FUNCTIONS,
    body: bytes = b"{}",
    kind: str = "http",
) -> tuple[Recorder, list[Any]]:
    """Send one request; return the recorder, and the messages that answer the client."""
    behind, sent = Recorder(), []
    parts = [body[:1], body[1:]]

    async def receive() -> dict[str, Any]:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }
    asyncio.run(Front(behind, key=KEY)(scope, receive, send))
    return behind, sent


def signed(
    *more: tuple[str, str],
    host: str = HOST,
    method: str = "POST",
    path: str = FUNCTIONS,
    body: bytes = b"{}",
    key: str = KEY,
) -> list[tuple[str, str]]:
    """Return the headers of a request that the SDK has signed."""
    request = AWSRequest(method, f"http://{host}{path}", data=body, headers=dict(more))
    SigV4Auth(BotocoreCredentials("000000000000", key), "lambda", "us-east-1").add_auth(request)
    return [("host", host), *((name.lower(), value) for name, value in request.headers.items())]


def refused(headers: Headers, **request: Any) -> list[Any]:
    behind, sent = call(headers, **request)
    assert behind.scopes == []
    return sent


def test_a_signed_request_reaches_the_emulator_with_its_body() -> None:
    behind, _ = call(signed())
    assert behind.bodies == [b"{}"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        *("/", FUNCTIONS, "/_aws/execute-api/abc/v1/cities", "/_ministack/reset"),
        *("/_ministack/health", "/_ministack/config", "/_ministack/lambda-code/x", "/health"),
    ],
)
def test_a_request_without_credentials_does_not(method: str, path: str) -> None:
    """Preflights are refused, too, so no browser gets permission to send requests."""
    start, _ = refused([("host", HOST)], method=method, path=path)
    assert start["status"] == 403
    assert not any(b"access-control" in name for name, _ in start["headers"])


def test_credentials_of_another_stack_do_not() -> None:
    refused(signed(key="b" * 64))
    refused(signed(key="test"))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8081", "10.0.0.1", "a@b"])
def test_a_signature_does_not_help_a_foreign_host(host: str) -> None:
    refused(signed(host=host))


@pytest.mark.parametrize(
    "header",
    [
        *(("origin", "https://evil.example"), ("origin", "null"), ("origin", "http://localhost:1")),
        *(("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site")),
    ],
)
def test_a_signature_does_not_help_a_page(header: tuple[str, str]) -> None:
    refused([*signed(), header])


def test_a_changed_body_does_not() -> None:
    refused(signed(body=b"{}"), body=b'{"Code": {}}')


def test_an_old_signature_does_not() -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    behind = Recorder()
    scope = {
        "type": "http", "method": "POST", "path": FUNCTIONS, "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in signed()],
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(Front(behind, key=KEY, clock=lambda: later)(scope, receive, send))
    assert (behind.scopes, sent[0]["status"]) == ([], 403)


def test_the_stacks_own_servers_get_through_and_their_key_stays_behind() -> None:
    own = (OWN_KEY_HEADER, derive_own_key(KEY))
    behind, _ = call([("host", "abc.execute-api.us-east-1.amazonaws.com"), own, ("x", "y")])
    names = [name for name, _ in behind.scopes[0]["headers"]]
    assert names == [b"host", b"x"]


def test_a_wrong_or_doubled_own_key_does_not() -> None:
    refused([("host", HOST), (OWN_KEY_HEADER, derive_own_key("test"))])
    refused([("host", HOST), (OWN_KEY_HEADER, derive_own_key(KEY)), (OWN_KEY_HEADER, "x")])


def test_a_custom_resource_has_its_random_address_as_its_only_result() -> None:
    path = "/_ministack/cfn-response/2f7f"
    assert call([("host", "localhost:8081")], method="PUT", path=path)[0].scopes
    refused([("host", "localhost:8081")], method="POST", path=path)
    refused([("host", HOST), ("origin", "https://evil.example")], method="PUT", path=path)


def test_a_websocket_is_refused() -> None:
    path = "/_aws/execute-api/abc/v1"
    sent = refused([("host", HOST)], method="GET", path=path, kind="websocket")
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_the_refusal_is_one_that_the_sdk_can_read_and_names_the_next_step() -> None:
    form = ("content-type", "application/x-www-form-urlencoded")
    for headers, start in (([], b"{"), ([form], b"<ErrorResponse>")):
        _, message = refused([("host", HOST), *headers])
        assert message["body"].startswith(start)
        assert b"make credentials" in message["body"]


KEYS = "/us-east-1_7AtOexROU/.well-known/jwks.json"


def test_a_user_pool_s_public_keys_need_no_signature() -> None:
    """The emulator's authorizer fetches them; without them every token would be refused."""
    behind, _ = call([("host", "localhost:8081")], method="GET", path=KEYS)
    assert len(behind.scopes) == 1


@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        ("POST", KEYS, ("accept", "*/*")),
        ("GET", f"{KEYS}/..", ("accept", "*/*")),
        ("GET", f"/a{KEYS}", ("accept", "*/*")),
        ("GET", KEYS, ("origin", "https://example.com")),
        ("GET", KEYS, ("sec-fetch-site", "cross-site")),
    ],
)
def test_only_public_keys_come_from_their_address(
    method: str, path: str, header: tuple[str, str]
) -> None:
    behind, sent = call([("host", HOST), header], method=method, path=path)
    assert behind.scopes == []
    assert sent[0]["status"] == 403


def send_form(*, key: str = KEY, origin: str = HOST, **changes: str) -> tuple[Recorder, list[Any]]:
    """Upload with a form that was signed with a key, from a page of an origin."""
    place = Bucket("files", "us-east-1", f"http://{HOST}", 900)
    upload = Upload("pictures", "a", "image", "01a1fc5d-903c-779d-961e-d3f40d76fc6e")
    fields = place.sign_upload(
        upload,
        Media("image/png"),
        {},
        media_type="image/png",
        credentials=Credentials("000000000000", key, None),
        now=dt.datetime.now(dt.UTC),
    )
    body, kind = encode_form({**fields, **changes}, b"\r\n--x\r\nbytes\0")
    headers = [("host", HOST), ("content-type", kind), ("origin", origin)]
    return call(headers, path="/files/", body=body)


@pytest.mark.parametrize("origin", [f"http://{HOST}", "http://127.0.0.1:8080", "http://a.example"])
def test_a_form_that_the_stack_has_signed_passes_from_any_page(origin: str) -> None:
    """A page that has such a form got it from the API."""
    behind, _ = send_form(origin=origin)
    assert behind.bodies[0].endswith(b"--\r\n")
    assert b"\r\n--x\r\nbytes\0" in behind.bodies[0]


@pytest.mark.parametrize(
    "changes", [{"policy": "e30="}, {"x-amz-signature": ""}, {"x-amz-credential": "x"}]
)
def test_a_changed_form_does_not_pass(changes: dict[str, str]) -> None:
    behind, sent = send_form(**changes)
    assert (behind.scopes, sent[0]["status"]) == ([], 403)


def test_a_form_of_another_key_does_not_pass() -> None:
    behind, sent = send_form(key="b" * 64)
    assert (behind.scopes, sent[0]["status"]) == ([], 403)


def test_a_form_for_another_service_than_s3_does_not_pass() -> None:
    """Its signature would cover nothing of the request."""
    signer = Signer("lambda", "us-east-1", Credentials("000000000000", KEY, None))
    now = dt.datetime.now(dt.UTC)
    body, kind = encode_form(signer.sign_form({}, [], now=now, expires=now), b"")
    behind, sent = call([("host", HOST), ("content-type", kind)], body=body)
    assert (behind.scopes, sent[0]["status"]) == ([], 403)
