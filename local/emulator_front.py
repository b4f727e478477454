"""`python -m local.emulator_front`: the AWS emulator, with a check of every request.

The emulator itself accepts any credentials and any `Host`, and lets every page in a browser read
its answers. A client that can send it requests can run code, as a Lambda function. So a request
must be signed with the stack's secret access key (`AWS_SECRET_ACCESS_KEY`), or carry the key of
the stack's own servers. The check is part of the emulator's process: no second port bypasses it.
"""

import datetime as dt
import hmac
import json
import re
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from xml.sax.saxutils import escape

from local.credentials import OWN_KEY_HEADER, derive_own_key, get_secret_key
from local.emulator_import import complete_gateway
from local.errors import report
from local.origins import Policy
from local.signatures import Request, SignatureError, check, check_form, parse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_FORBIDDEN = 403
# Functions of CloudFormation's custom resources put their results here. The rest of the path is a
# random token that only such a function receives (on AWS, it is a presigned URL).
_CALLBACK_PREFIX = "/_ministack/cfn-response/"
# The public keys of a user pool, which the emulator's own authorizer fetches without a signature;
# on AWS everybody may (AWS: "Verifying JSON web tokens").
_PUBLIC_KEYS = re.compile(r"/[\w-]+/\.well-known/jwks\.json")


class Front:
    """An ASGI application in front of another."""

    def __init__(
        self,
        app: App,
        *,
        key: str,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        """Pass requests signed with the secret access key to `app`."""
        self._app = app
        self._key = key
        self._own_key = derive_own_key(key).encode()
        self._clock = clock
        self._policy = Policy()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request; lifespan events are passed on."""
        if scope["type"] == "lifespan" or self._is_own(scope):
            await self._app(_drop_own_key(scope), receive, send)
            return
        request = _parse_request(scope)
        try:
            self._check_caller(scope["type"], request)
            if not _is_open(request):
                receive = await self._check(request, receive)
        except SignatureError as exc:
            await _refuse(scope, request, str(exc), send)
            return
        await self._app(scope, receive, send)

    def _is_own(self, scope: Message) -> bool:
        keys = [value for name, value in scope.get("headers", ()) if _is_own_key(name)]
        return len(keys) == 1 and hmac.compare_digest(keys[0], self._own_key)

    def _check_caller(self, protocol: str, request: Request) -> None:
        if protocol != "http":
            raise SignatureError("only HTTP requests are supported")
        # Pages of other origins may use what the API has signed for them, as on AWS.
        is_signed = request.is_form or request.is_presigned
        refusal = self._policy.find_refusal(
            hosts=_list_values(request, "host"),
            origins=[] if is_signed else _list_values(request, "origin"),
            sites=[] if is_signed else _list_values(request, "sec-fetch-site"),
        )
        if refusal is not None:
            raise SignatureError(refusal)

    async def _check(self, request: Request, receive: Receive) -> Receive:
        """Check the signature; return a `receive` for the body, which the check has read."""
        if request.is_form:
            body = await _read(receive)
            check_form(request, body, key=self._key)  # the emulator checks its conditions
        else:
            signature = parse(request)
            body = await _read(receive)
            check(request, signature, key=self._key, body=body, now=self._clock())
        return _repeat_body(body, receive)


def main() -> int:
    """Run the emulator until it is stopped; return the exit code."""
    key = get_secret_key()
    # The emulator reads its settings from the environment at import.
    import ministack.app as emulator  # noqa: PLC0415

    complete_gateway(emulator)
    emulator.app = Front(emulator.app, key=key)
    emulator.main()
    return 0


def _parse_request(scope: Message) -> Request:
    return Request(
        method=scope.get("method", ""),
        path=(scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
        query=scope.get("query_string", b"").decode("latin-1"),
        headers=[
            (name.decode("latin-1").lower(), value.decode("latin-1").strip())
            for name, value in scope["headers"]
        ],
    )


def _list_values(request: Request, name: str) -> list[str]:
    return [value for key, value in request.headers if key == name]


def _is_open(request: Request) -> bool:
    """Return whether the request needs no signature."""
    if request.method == "PUT":
        return request.path.startswith(_CALLBACK_PREFIX)
    return request.method == "GET" and _PUBLIC_KEYS.fullmatch(request.path) is not None


def _is_own_key(name: bytes) -> bool:
    return name.decode("latin-1").lower() == OWN_KEY_HEADER


def _drop_own_key(scope: Message) -> Message:
    """Return the scope without the key, which the emulator and its functions must not see."""
    if "headers" not in scope:
        return scope
    return {**scope, "headers": [pair for pair in scope["headers"] if not _is_own_key(pair[0])]}


async def _read(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise SignatureError("the request was aborted")
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _repeat_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that yields the body that was read, then the messages after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def bring() -> Message:
        return messages.pop() if messages else await receive()

    return bring


async def _refuse(scope: Message, request: Request, reason: str, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    text = f"{reason[:1].upper()}{reason[1:]}"
    if not text.endswith("."):
        text += "; `make credentials` prints the stack's."
    kind, body = _format_error(request, text)
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"x-amzn-errortype", b"AccessDenied"),
        # The unread rest of a body would be parsed as the next request.
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": _FORBIDDEN, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


def _format_error(request: Request, text: str) -> tuple[bytes, bytes]:
    """Format the error for the client's SDK: as XML or JSON."""
    is_query = "x-www-form-urlencoded" in (request.header("content-type") or "")
    if is_query or "/s3/aws4_request" in f"{request.header('authorization')}{request.query}":
        error = f"<Code>AccessDenied</Code><Message>{escape(text)}</Message>"
        return b"application/xml", f"<ErrorResponse><Error>{error}</Error></ErrorResponse>".encode()
    error = json.dumps({"__type": "AccessDenied", "message": text})
    return b"application/json", error.encode()


if __name__ == "__main__":
    sys.exit(report("emulator", main))
