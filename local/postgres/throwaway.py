"""A Postgres for minutes: what tests and `alembic check` use, gone without a trace afterwards."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.postgres.config import Cluster, Role
from local.postgres.server import Servers
from local.secret import make_secret
from local.supervisor import Supervisor


@contextmanager
def throwaway_servers() -> Iterator[Servers]:
    """Primary and replica in a temporary folder, neither of them started yet.

    They are quick because they don't survive a crash. What was started is stopped at the end of the
    block.
    """
    with open_folder() as folder:
        primary = throwaway_cluster(folder, "primary")
        replica = throwaway_cluster(folder, "replica")
        with Supervisor(folder / "processes.json") as supervisor:
            yield Servers(supervisor, primary, replica)


def throwaway_cluster(folder: Path, role: Role, *, durable: bool = False) -> Cluster:
    """A server in that folder, with the folder's secret, on a port of its own."""
    secret = folder / "secret"
    make_secret(secret)
    log = folder / f"{role}.log"
    return Cluster(role, folder / role, free_port(), log, secret, durable=durable)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that others may enter, as Postgres's account must where we are root."""
    with tempfile.TemporaryDirectory(prefix="forebay-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


def free_port() -> int:
    """A port of the loopback address that nobody listened on a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
