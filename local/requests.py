"""Requests to the stack's own HTTP servers, past the proxies that the environment names."""

import http.client
from collections.abc import Mapping

_ANSWER_SECONDS = 30.0  # API Gateway's own time-out is 29 s


def send(
    port: int,
    method: str,
    path: str,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout_seconds: float = _ANSWER_SECONDS,
) -> tuple[int, str]:
    """Send a request to a port of this machine; return the status and the body of the answer.

    Raises:
        OSError, http.client.HTTPException: the server does not answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def is_answering(port: int, path: str, headers: Mapping[str, str] | None = None) -> bool:
    """Return whether a server answers 200."""
    try:
        return send(port, "GET", path, headers=headers, timeout_seconds=2)[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
