"""A temporary Postgres for tests and `alembic check`, deleted completely after use."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.credentials import make_secret
from local.postgres.config import Cluster, Role
from local.postgres.server import Servers
from local.supervisor import Supervisor


@contextmanager
def make_throwaway_servers() -> Iterator[Servers]:
    """Make a primary and a replica in a temporary folder, without starting them.

    They are fast because they are not durable. Started servers are stopped at the end of the
    block.
    """
    with open_folder() as folder:
        primary = make_throwaway_cluster(folder, "primary")
        replica = make_throwaway_cluster(folder, "replica")
        with Supervisor() as supervisor:
            yield Servers(supervisor, primary, replica)


def make_throwaway_cluster(folder: Path, role: Role, *, durable: bool = False) -> Cluster:
    """Make a server in the folder, with the folder's secret, on its own port."""
    secret = folder / "secret"
    make_secret(secret)
    log = folder / f"{role}.log"
    return Cluster(role, folder / role, find_free_port(), log, secret, durable=durable)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a temporary folder that other users may enter, such as Postgres's account under root."""
    with tempfile.TemporaryDirectory(prefix="forebay-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


def find_free_port() -> int:
    """Return a free port of the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
