"""Send a request to the emulated API and return the whole answer."""

import os
import time
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from local.credentials import OWN_KEY_HEADER, derive_own_key
from local.emulator_import import FUNCTION_HEADER
from local.errors import LocalStackError
from local.gateway.deployed import split_path
from local.gateway.messages import HOP_BY_HOP, Answer, Incoming
from local.settings import REGION

# `x-amz-request-id` is S3's; a REST API does not send it.
_NOT_PASSED_BACK = HOP_BY_HOP | {
    "content-length", "date", "server", "x-amz-request-id", FUNCTION_HEADER,
}  # fmt: skip

_AUTOMATIC_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_CONNECT_TIMEOUT_SECONDS = 5.0
_MAX_CONNECTIONS = 512
_MAX_LINE_BYTES = 16 * 1024  # above API Gateway's limit for all headers of an answer


class EmulatorUnreachableError(LocalStackError):
    """The gateway can't connect to the emulator; no request was sent."""


class HungUpError(Exception):
    """The emulator closed the connection early; the request may have been carried out."""


class IntegrationTimeoutError(Exception):
    """The integration did not answer within its `timeoutInMillis`."""


class Emulator:
    """The emulated data plane. Use it as an async context manager."""

    def __init__(self, url: str, *, key: str, port: int) -> None:
        """Store the settings; `__aenter__` opens the session."""
        self._url = url.rstrip("/")
        self._own_key = derive_own_key(key)
        self._port = port

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS),
            # A function's cookie belongs to its client, not to the gateway.
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_AUTOMATIC_HEADERS,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, api_id: str, request: Incoming, *, timeout_seconds: float) -> Answer:
        """Send the request and return the API's answer.

        Raises:
            IntegrationTimeoutError: the answer did not arrive in time.
            EmulatorUnreachableError: the request could not be sent.
            HungUpError: the emulator closed the connection; the request may have been carried out.
        """
        # The path form: the host form needs a name that most resolvers don't know, and a client's
        # Host header could then choose another service of the emulator.
        target = f"{self._url}/_aws/execute-api/{api_id}{_encode_path(request.path)}"
        if request.query:
            target += f"?{urlencode(request.query)}"
        try:
            async with self._session.request(
                request.method,
                URL(target, encoded=True),
                headers=self._build_headers(api_id, request),
                data=request.body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=timeout_seconds, sock_connect=_CONNECT_TIMEOUT_SECONDS
                ),
            ) as response:
                return Answer(
                    response.status,
                    tuple(
                        pair
                        for pair in response.headers.items()
                        if pair[0].lower() not in _NOT_PASSED_BACK
                    ),
                    await response.read(),
                    is_of_function=FUNCTION_HEADER in response.headers,
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise EmulatorUnreachableError(f"the emulator at {self._url} does not respond") from exc
        except TimeoutError as exc:
            raise IntegrationTimeoutError(
                f"no answer within {timeout_seconds:g} s, the integration's timeout"
            ) from exc
        except (aiohttp.ClientError, ConnectionError) as exc:
            raise HungUpError(f"the emulator at {self._url} closed the connection: {exc}") from exc

    def _build_headers(self, api_id: str, request: Incoming) -> Mapping[str, str]:
        return {
            "x-amzn-trace-id": _make_trace_id(),
            **request.headers,
            # A signature would need the header Authorization, which belongs to the client.
            OWN_KEY_HEADER: self._own_key,
            "host": f"{api_id}.execute-api.{REGION}.amazonaws.com",
            "x-forwarded-for": request.peer,
            "x-forwarded-port": str(self._port),
            "x-forwarded-proto": "http",
        }


def _encode_path(path: str) -> str:
    """Encode the path so that the function receives its segments as the client encoded them.

    Empty segments are dropped: they affect neither the resource nor the cache key. A REST API
    passes path parameters percent-encoded, but the emulator decodes the path before it looks for
    the resource. So the path is encoded twice, and `%2F` does not become a separator.
    """
    return "/" + "/".join(split_path(path)).replace("%", "%25")


def _make_trace_id() -> str:
    return f"Root=1-{int(time.time()):x}-{os.urandom(12).hex()}"
