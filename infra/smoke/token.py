"""An access token for a program: the grant `client_credentials` of RFC 6749."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

from forebay.errors import SettingsError
from infra.smoke.client import UnreachableError

_TIMEOUT_SECONDS = 20


def fetch_token(env: Mapping[str, str]) -> str | None:
    """A token of the service at `TOKEN_URL`; None without this variable.

    A token of Cognito ends after minutes, so a workflow can't have it as a secret.

    Raises:
        SettingsError: a variable is missing, or the service refuses the client.
        UnreachableError: the service did not answer.
    """
    url = env.get("TOKEN_URL")
    if not url:
        return None
    missing = [name for name in ("CLIENT_ID", "CLIENT_SECRET") if not env.get(name)]
    if missing:
        raise SettingsError(f"TOKEN_URL is set, but {' and '.join(missing)} is not")
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise SettingsError(
            f"TOKEN_URL {url!r} is not an address, for example: "
            "https://<domain_prefix>.auth.us-east-1.amazoncognito.com/oauth2/token"
        )
    login = base64.b64encode(f"{env['CLIENT_ID']}:{env['CLIENT_SECRET']}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310 - http and https only, as checked above
        url,
        data=b"grant_type=client_credentials",
        headers={
            "Authorization": f"Basic {login}",
            "Content-Type": "application/x-www-form-urlencoded",
        },
    )
    return _read_token(url, _send(url, request))


def _send(url: str, request: urllib.request.Request) -> bytes:
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        with error:
            detail = error.read(500).decode("utf-8", "replace").strip()
        raise SettingsError(
            f"{url} gives no token: {error.code} {detail}; compare CLIENT_ID and CLIENT_SECRET "
            "with a client of api.authorization.machine_clients"
        ) from error
    except OSError as exc:
        raise UnreachableError(f"{url} does not answer: {exc}") from exc


def _read_token(url: str, body: bytes) -> str:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    token = answer.get("access_token") if isinstance(answer, dict) else None
    if not isinstance(token, str):
        raise SettingsError(f"{url} answered without an access token; TOKEN_URL ends with /token")
    return token
