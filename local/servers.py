"""Start the stack's own two servers: the Firehose server and the gateway."""

import http.client
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import resources
from forebay.routes import API_PREFIX, routes
from local.deployment import Deployed
from local.emulator import build_client_environment
from local.processes import Child, Spec, StopOrder
from local.requests import is_answering, send
from local.settings import LocalSettings
from local.supervisor import Supervisor

_READY_SECONDS = 60.0
_FLUSH_SECONDS = 5.0
# Firehose delivers the buffered records to S3; the rest stays in the spool.
_STOP_SECONDS = 15.0


def start_firehose(supervisor: Supervisor, settings: LocalSettings) -> Child:
    """Start the Firehose server, and return when it accepts records."""
    port = settings.ports.firehose
    command = [
        *("--port", str(port)),
        *("--spool", str(settings.firehose)),
        *("--endpoint-url", settings.emulator_url),
    ]
    return _start(supervisor, settings, "firehose", command, port=port, health="/_health")


def start_gateway(supervisor: Supervisor, settings: LocalSettings, deployed: Deployed) -> Child:
    """Start the gateway, and return when it serves the deployed API."""
    port = settings.ports.gateway
    command = [
        *("--port", str(port)),
        *("--emulator", settings.emulator_url),
        *("--api-id", deployed.api_id),
        *("--stage", deployed.stage),
        *(argument for name in sorted(settings.hosts) for argument in ("--host", name)),
    ]
    return _start(supervisor, settings, "gateway", command, port=port, health="/_gateway/health")


def _start(
    supervisor: Supervisor,
    settings: LocalSettings,
    name: str,
    options: Sequence[str],
    *,
    port: int,
    health: str,
) -> Child:
    """Start one of the stack's own servers, the module `local.<name>`; return when it is ready."""
    child = supervisor.start(
        Spec(
            name=name,
            command=[sys.executable, "-m", f"local.{name}", *options],
            log=settings.logs / f"{name}.log",
            rank=StopOrder[name.upper()],
            env={
                **build_client_environment(settings),
                "PYTHONPATH": str(settings.root),
                "PYTHONUNBUFFERED": "1",
            },
            cwd=settings.root,
            patience_seconds=_STOP_SECONDS,
        )
    )
    supervisor.wait_until(
        lambda: is_answering(port, health), child=child, timeout_seconds=_READY_SECONDS
    )
    return child


def start_functions(settings: LocalSettings) -> list[str]:
    """Start the read and the write function with one request each; return the problems.

    So clients don't wait for the functions' start, or exceed a time limit during a slow first
    start. The write is an empty batch, which the function refuses, so that no command is stored. A
    declared resource without its table is reported, but does not prevent the start.
    """
    path = next((route.path for route in routes(resources.load()) if route.action == "list"), None)
    if path is None:
        return ["no resource is declared in resources/"]
    check = partial(_send_and_check, settings.ports.gateway)
    with ThreadPoolExecutor() as pool:
        read_answer = pool.submit(
            check, "GET", f"{API_PREFIX}{path}?limit=1", expected=http.client.OK
        )
        write_answer = pool.submit(
            check, "POST", f"{API_PREFIX}{path}", body="[]", expected=http.client.BAD_REQUEST
        )
        return [problem for problem in (read_answer.result(), write_answer.result()) if problem]


def _send_and_check(
    port: int, method: str, path: str, *, expected: int, body: str | None = None
) -> str:
    """Send a request; return a description of an unexpected answer, or an empty text."""
    status, answer = send(port, method, path, body, {"Content-Type": "application/json"})
    return "" if status == expected else f"{method} {path} is answered {status}: {answer[:300]}"


def flush_cache(settings: LocalSettings) -> None:
    """Empty the gateway's cache."""
    send(settings.ports.gateway, "POST", "/_gateway/flush", timeout_seconds=_FLUSH_SECONDS)
