"""Check before the start that the stack's ports are free, and find the owners of those in use."""

import contextlib
import errno
import socket

import psutil

from local.errors import PortTakenError
from local.settings import Ports

_HOST = "127.0.0.1"


def check_free(ports: Ports) -> None:
    """Raise PortTakenError, naming every port of the stack that can't be listened on."""
    problems = [
        f"port {port} (for the {name.replace('_', ' ')}) {problem}"
        for name, port in ports._asdict().items()
        if (problem := _find_problem(port)) is not None
    ]
    if problems:
        raise PortTakenError(
            f"{', '.join(problems)}; stop that program, or use other ports: "
            f"make run PORT={_suggest_base(ports.base)}"
        )


def _find_problem(port: int) -> str | None:
    """Return the reason why a server can't listen on the port, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: lingering TIME_WAIT connections of the last run don't block a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except PermissionError:
            return "is reserved for the system"
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            return f"is already in use{_describe_owner(port)}"
    return None


def _describe_owner(port: int) -> str:
    """Return ` by <program> (pid n)`, or an empty text if the system hides the owner."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            if connection.status != psutil.CONN_LISTEN or not address or address.port != port:
                continue
            if connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""


def _suggest_base(base: int) -> int:
    """Return a base port for the advice, far from the given port."""
    return 9000 if abs(base - 9000) > len(Ports._fields) else 10000
