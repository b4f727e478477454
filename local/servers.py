"""Starts our own two servers: the Firehose server and the gateway."""

import http.client
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import resources
from forebay.routes import API_PREFIX, routes
from local.child import Child, Spec
from local.deployment import Deployed
from local.emulator import client_environment
from local.settings import LocalSettings
from local.supervisor import Supervisor

_READY_SECONDS = 60.0
_ANSWER_SECONDS = 30.0  # API Gateway itself gives up after 29
# It hands to S3 what it has buffered; what S3 does not take stays in its spool.
_FIREHOSE_STOP_SECONDS = 15.0


def start_firehose(supervisor: Supervisor, settings: LocalSettings, *, rank: int) -> Child:
    """The Firehose server, which takes records.

    Raises:
        ChildDiedError, StartTimeoutError: it does not; carries the end of its log.
    """
    port = settings.ports.firehose
    child = supervisor.start(
        Spec(
            name="firehose",
            command=[
                *(sys.executable, "-m", "local.firehose"),
                *("--port", str(port)),
                *("--spool", settings.firehose),
                *("--endpoint-url", settings.emulator_url),
            ],
            log=settings.logs / "firehose.log",
            rank=rank,
            env=_environment(settings),
            cwd=settings.root,
            patience_seconds=_FIREHOSE_STOP_SECONDS,
        )
    )
    supervisor.wait_until(
        lambda: _answers(port, "/_health"), child=child, timeout_seconds=_READY_SECONDS
    )
    return child


def start_gateway(
    supervisor: Supervisor, settings: LocalSettings, deployed: Deployed, *, rank: int
) -> Child:
    """The gateway, which serves the deployed API.

    Raises:
        ChildDiedError, StartTimeoutError: it does not; carries the end of its log.
    """
    port = settings.ports.gateway
    child = supervisor.start(
        Spec(
            name="gateway",
            command=[
                *(sys.executable, "-m", "local.gateway"),
                *("--port", str(port)),
                *("--emulator", settings.emulator_url),
                *("--api-id", deployed.api_id),
                *("--stage", deployed.stage),
                *(word for name in sorted(settings.hosts) for word in ("--host", name)),
            ],
            log=settings.logs / "gateway.log",
            rank=rank,
            env=_environment(settings),
            cwd=settings.root,
        )
    )
    supervisor.wait_until(
        lambda: _answers(port, "/_gateway/health"), child=child, timeout_seconds=_READY_SECONDS
    )
    return child


def first_answers(settings: LocalSettings, *, wants_credentials: bool = False) -> list[str]:
    """Starts the read and the write function by asking each; what is wrong, if anything.

    So no client waits for them, nor meets the time limit of a slow first start. The write is an
    empty batch, which the function refuses and nobody stores. A declared resource without its table
    is no reason not to start, but one to tell. An API that wants credentials is not asked: it would
    refuse ahead of the functions.
    """
    if wants_credentials:
        return []
    path = next((route.path for route in routes(resources.load()) if route.action == "list"), None)
    if path is None:
        return ["no resource is declared in resources/"]
    ask = partial(_ask, settings.ports.gateway)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(ask, "GET", f"{API_PREFIX}{path}?limit=1", expected=http.client.OK)
        write = pool.submit(
            ask, "POST", f"{API_PREFIX}{path}", body="[]", expected=http.client.BAD_REQUEST
        )
        return [wrong for wrong in (read.result(), write.result()) if wrong]


def _ask(port: int, method: str, path: str, *, expected: int, body: str | None = None) -> str:
    """What is wrong with the answer; empty if nothing is."""
    status, answer = _send(port, method, path, body)
    return "" if status == expected else f"{method} {path} answers {status}: {answer[:300]}"


def flush_cache(settings: LocalSettings) -> None:
    """Empties the gateway's cache."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.ports.gateway, timeout=5)
    try:
        connection.request("POST", "/_gateway/flush")
        connection.getresponse().read()
    finally:
        connection.close()


def _environment(settings: LocalSettings) -> dict[str, str]:
    return {
        **client_environment(settings),
        "PYTHONPATH": str(settings.root),
        "PYTHONUNBUFFERED": "1",
    }


def _answers(port: int, path: str) -> bool:
    try:
        return _send(port, "GET", path)[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def _send(port: int, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()
