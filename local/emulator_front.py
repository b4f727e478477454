"""`python -m local.emulator_front`: the AWS emulator, behind a check of every request.

The emulator by itself takes any credentials and any `Host`, and tells browsers that every page may
read its answers. Whoever can send it requests can run code: as a Lambda function. So it answers
only who has signed with the stack's secret access key (`AWS_SECRET_ACCESS_KEY`), or shows the key
of the stack's own servers. The check is part of the emulator's process: there is no second port
that goes around it.
"""

import datetime as dt
import hmac
import json
import re
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from xml.sax.saxutils import escape

from local.credentials import OWN_KEY_HEADER, given_secret_key, own_key
from local.errors import CredentialsMissingError
from local.origins import Policy
from local.signatures import Request, SignatureError, check, needs_body, parse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_FORBIDDEN = 403
# Where functions of CloudFormation's custom resources tell their results: the rest of the path is
# a random token that only they were given (as on AWS, where it is a presigned URL).
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
        """Lets through to `app` what is signed with the secret access key."""
        self._app = app
        self._key = key
        self._own_key = own_key(key).encode()
        self._clock = clock
        self._policy = Policy()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request; lifespan events are passed on."""
        if scope["type"] == "lifespan" or self._is_own(scope):
            await self._app(_without_own_key(scope), receive, send)
            return
        request = _request(scope)
        try:
            self._check_caller(scope["type"], request)
            if not (_is_callback(request) or _is_for_public_keys(request)):
                receive = await self._checked(request, receive)
        except SignatureError as exc:
            await _refuse(scope, request, str(exc), send)
            return
        await self._app(scope, receive, send)

    def _is_own(self, scope: Message) -> bool:
        shown = [value for name, value in scope.get("headers", ()) if _is_own_key(name)]
        return len(shown) == 1 and hmac.compare_digest(shown[0], self._own_key)

    def _check_caller(self, protocol: str, request: Request) -> None:
        if protocol != "http":
            raise SignatureError("only HTTP requests are answered")
        refusal = self._policy.refusal(
            hosts=[value for name, value in request.headers if name == "host"],
            origins=[value for name, value in request.headers if name == "origin"],
            sites=[value for name, value in request.headers if name == "sec-fetch-site"],
        )
        if refusal is not None:
            raise SignatureError(refusal)

    async def _checked(self, request: Request, receive: Receive) -> Receive:
        """Checks the signature; returns what brings the body, which may have been read for it."""
        signature = parse(request)
        body = b""
        if needs_body(request, signature):
            body = await _read(receive)
            receive = _again(body, receive)
        check(request, signature, key=self._key, body=body, now=self._clock())
        return receive


def main() -> int:
    """Runs the emulator until it is stopped; returns the exit code."""
    try:
        key = given_secret_key()
    except CredentialsMissingError as exc:
        sys.stderr.write(f"emulator: {exc}\n")
        return 2
    # It reads its settings from the environment as it is imported.
    import ministack.app as emulator  # noqa: PLC0415

    emulator.app = Front(emulator.app, key=key)
    emulator.main()
    return 0


def _request(scope: Message) -> Request:
    return Request(
        method=scope.get("method", ""),
        path=(scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
        query=scope.get("query_string", b"").decode("latin-1"),
        headers=[
            (name.decode("latin-1").lower(), value.decode("latin-1").strip())
            for name, value in scope["headers"]
        ],
    )


def _is_callback(request: Request) -> bool:
    return request.method == "PUT" and request.path.startswith(_CALLBACK_PREFIX)


def _is_for_public_keys(request: Request) -> bool:
    return request.method == "GET" and _PUBLIC_KEYS.fullmatch(request.path) is not None


def _is_own_key(name: bytes) -> bool:
    return name.decode("latin-1").lower() == OWN_KEY_HEADER


def _without_own_key(scope: Message) -> Message:
    """The scope as the emulator, and through it a function, may see it."""
    if "headers" not in scope:
        return scope
    return {**scope, "headers": [pair for pair in scope["headers"] if not _is_own_key(pair[0])]}


async def _read(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise SignatureError("the request was broken off")
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Brings a body that was read, and then what comes after it."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def bring() -> Message:
        return waiting.pop() if waiting else await receive()

    return bring


async def _refuse(scope: Message, request: Request, reason: str, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    text = f"{reason[:1].upper()}{reason[1:]}"
    if not text.endswith("."):
        text += "; `make credentials` prints the stack's."
    kind, body = _worded(request, text)
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"x-amzn-errortype", b"AccessDenied"),
        # What of a body was not read would be taken for the next request.
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": _FORBIDDEN, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


def _worded(request: Request, text: str) -> tuple[bytes, bytes]:
    """The error as the SDK that sent the request reads it: XML or JSON."""
    is_form = "x-www-form-urlencoded" in (request.header("content-type") or "")
    if is_form or "/s3/aws4_request" in f"{request.header('authorization')}{request.query}":
        error = f"<Code>AccessDenied</Code><Message>{escape(text)}</Message>"
        return b"application/xml", f"<ErrorResponse><Error>{error}</Error></ErrorResponse>".encode()
    error = json.dumps({"__type": "AccessDenied", "message": text})
    return b"application/json", error.encode()


if __name__ == "__main__":
    sys.exit(main())
