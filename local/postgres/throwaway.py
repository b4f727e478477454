"""A Postgres for minutes: what tests and `alembic check` use, gone without a trace afterwards."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.postgres.config import Cluster
from local.postgres.server import Servers
from local.supervisor import Supervisor


@contextmanager
def throwaway_servers() -> Iterator[Servers]:
    """Primary and replica in a temporary folder, neither of them started yet.

    They are quick because they neither survive a crash nor ask for passwords. What was started is
    stopped at the end of the block.
    """
    with open_folder() as folder:
        primary = Cluster(
            "primary", folder / "primary", free_port(), folder / "primary.log", durable=False
        )
        replica = Cluster(
            "replica", folder / "replica", free_port(), folder / "replica.log", durable=False
        )
        with Supervisor(folder / "processes.json") as supervisor:
            yield Servers(supervisor, primary, replica)


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
