"""`make token`: an access token of a program, if the API requires tokens of Cognito."""

import base64
import http.client
import json
from collections.abc import Mapping
from urllib.parse import urlencode

from local.aws import Emulated
from local.credentials import OWN_KEY_HEADER, derive_own_key, read_secret_key
from local.errors import ToolFailedError
from local.outputs import build_stack_name, read_outputs
from local.requests import send
from local.settings import LocalSettings

_OUTPUT = "ClientId"
_NO_PROGRAM = {"People"}  # has no secret


def fetch_access_token(settings: LocalSettings, client: str) -> str:
    """An access token with every scope of a program, as programs fetch it (RFC 6749 §4.4).

    Raises:
        ToolFailedError: the API requires no tokens, the stack does not run, or it has no such
            program.
    """
    try:
        identity = read_outputs(settings).get(build_stack_name("identity"))
    except FileNotFoundError:
        raise ToolFailedError("no stack was deployed yet: start it with `make run`") from None
    if identity is None:
        raise ToolFailedError(
            "the API of this stack requires no tokens: set api.authorization in "
            "infra/environments/local.toml (docs/configuration.md), and start again"
        )
    client_id = _find_client_id(identity, client)
    secret = Emulated.of(settings).client_secret(identity["UserPoolId"], client_id)
    return _fetch(settings, client_id, secret)


def _find_client_id(identity: Mapping[str, str], client: str) -> str:
    name = client.title().replace("-", "")
    names = {key.removeprefix(_OUTPUT) for key in identity if key.startswith(_OUTPUT)} - _NO_PROGRAM
    if name not in names:
        programs = ", ".join(sorted(names)) or "none"
        raise ToolFailedError(
            f"{client!r} is not in api.authorization.machine_clients of the running stack; "
            f"it contains: {programs}"
        )
    return identity[_OUTPUT + name]


def _fetch(settings: LocalSettings, client_id: str, secret: str) -> str:
    basic = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    headers = {
        "Authorization": f"Basic {basic}",
        "Content-Type": "application/x-www-form-urlencoded",
        # The emulator answers only what is signed, and this request has the program's own proof.
        OWN_KEY_HEADER: derive_own_key(read_secret_key(settings)),
    }
    form = urlencode({"grant_type": "client_credentials"})
    try:
        status, body = send(settings.ports.emulator, "POST", "/oauth2/token", form, headers)
    except (OSError, http.client.HTTPException) as exc:
        raise ToolFailedError(
            f"the emulator did not respond: {exc}; is the stack running?"
        ) from exc
    if status != http.client.OK:
        raise ToolFailedError(f"no token for {client_id}: {body}")
    token: str = json.loads(body)["access_token"]
    return token
