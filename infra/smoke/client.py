"""An HTTP client for the deployed API; it needs only the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from forebay.errors import ForebayError, SettingsError

#: Longer than API Gateway's time-out for an integration, 29 s.
_TIMEOUT_SECONDS = 35


class UnreachableError(ForebayError):
    """No server answered at the address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def read_json(self) -> Any:  # noqa: ANN401 - of any shape
        """The body, parsed; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def describe(self) -> str:
        """Status and, of a problem, its code and detail."""
        problem = self.read_json()
        if not isinstance(problem, dict) or "code" not in problem:
            return str(self.status)
        return f"{self.status} {problem['code']} ({problem.get('detail', '')})"


@dataclass(frozen=True, slots=True)
class SmokeClient:
    """Sends requests to the API at `url`, which ends with the stage or a domain's base path."""

    url: str
    #: Headers with the caller's credentials.
    credentials: Mapping[str, str] = field(default_factory=dict)

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: object = None,
        with_credentials: bool = True,
    ) -> Answer:
        """Send one request.

        Args:
            method: the HTTP method.
            path: the path below the API's address, or one that begins with the address's path.
            headers: more headers.
            content: sent as JSON, unless it is None.
            with_credentials: False to send the request as a stranger.

        Raises:
            UnreachableError: there was no answer.
        """
        sent = {**(self.credentials if with_credentials else {}), **(headers or {})}
        data = None if content is None else json.dumps(content).encode()
        if data is not None:
            sent["Content-Type"] = "application/json"
        request = urllib.request.Request(  # noqa: S310 - http and https only, see `parse_url`
            self._locate(path), method=method, headers=sent, data=data
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
                return _read(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return _read(error.code, error.headers, error.read())
        except OSError as exc:
            raise UnreachableError(f"{self._locate(path)} does not answer: {exc}") from exc

    def _locate(self, path: str) -> str:
        parts = urlsplit(self.url)
        if parts.path and path.startswith(f"{parts.path}/"):
            return f"{parts.scheme}://{parts.netloc}{path}"
        return self.url + path


def parse_url(text: str) -> str:
    """The API's address without a slash at its end.

    Raises:
        SettingsError: it is not an address of HTTP.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise SettingsError(
            f"URL {text!r} is not the address of an API; with an edge, its domain; else "
            "that of the outputs ApiId and StageName of the service stack, for example: "
            "make smoke URL=https://abc123.execute-api.us-east-1.amazonaws.com/v1"
        )
    return text.rstrip("/")


def _read(status: int, headers: Any, body: bytes) -> Answer:  # noqa: ANN401 - as urllib has them
    return Answer(status, {name.lower(): value for name, value in headers.items()}, body)
