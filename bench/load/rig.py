"""The one-machine stack under load, with a given buffering, and the functions' HTTP fronts."""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psycopg

from bench.load.front import HOST
from infra.settings import FunctionName
from local.credentials import ACCESS_KEY_ID, read_secret_key
from local.emulator import build_client_environment
from local.postgres.config import READER, SUPERUSER
from local.postgres.throwaway import find_free_port, open_folder
from local.settings import REGION, ROOT, LocalSettings, Ports
from local.stack import LocalStack

_SOURCES = (
    *("forebay", "infra", "lambdas", "local", "migrations", "resources", "bench"),
    *("alembic.ini", "cdk.json", "package.json", "package-lock.json", "pyproject.toml", "uv.lock"),
)
_START_SECONDS = 30.0
_PAUSE_SECONDS = 0.25
_PORTS = 5
#: Below the ports that the system uses for outgoing connections.
_BASE_PORTS = range(10_000, 32_000)


@dataclass(frozen=True, slots=True)
class Buffering:
    """How much a delivery stream buffers before it makes an object."""

    seconds: int
    mebibytes: int


#: The values of `make run`, and of environments/prod.toml.
LOCAL = Buffering(1, 1)
PRODUCTION = Buffering(10, 64)


@dataclass(frozen=True, slots=True)
class Rig:
    """A running stack."""

    stack: LocalStack

    @property
    def settings(self) -> LocalSettings:
        """The stack's settings."""
        return self.stack.settings

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows of a query on the replica, so that monitoring does not load the primary."""
        url = self.stack.replica.url(READER)
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def flush(self) -> None:
        """Make the Firehose server deliver now, without waiting for its interval.

        Raises:
            RuntimeError: it did not deliver.
        """
        connection = http.client.HTTPConnection(HOST, self.settings.ports.firehose, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/_flush")
            status = connection.getresponse().status
        if status != http.client.OK:
            raise RuntimeError(f"the Firehose server did not deliver: {status}")

    def wait_until_applied(self, commands: Sequence[str], *, seconds: float) -> float:
        """Wait until the replica has the rows of all these commands; return the seconds.

        Raises:
            TimeoutError: some rows are missing after that time.
        """
        start = time.monotonic()
        missing = set(commands)
        while missing:
            rows = self.rows(
                "SELECT _version::text FROM cities WHERE _version = ANY(%s::uuid[])",
                sorted(missing),
            )
            missing -= {version for (version,) in rows}
            if time.monotonic() > start + seconds:
                raise TimeoutError(f"{len(missing)} of {len(commands)} commands are not applied")
            time.sleep(_PAUSE_SECONDS)
        return time.monotonic() - start

    def empty(self) -> None:
        """Empty the table, so that every load starts from the same state."""
        with psycopg.connect(self.stack.primary.url(SUPERUSER), autocommit=True) as connection:
            connection.execute("TRUNCATE cities")
            connection.execute("VACUUM (ANALYZE) cities")

    def stop_primary(self) -> None:
        """Stop the primary in an orderly way; the rest of the stack keeps running."""
        supervisor = self.stack._supervisor  # noqa: SLF001 - LocalStack has no method for it
        (child,) = [
            entry for entry in supervisor.list_children() if entry.name == "Postgres primary"
        ]
        supervisor.stop_one(child)

    def start_primary(self) -> None:
        """Start the primary again."""
        self.stack._start_primary()  # noqa: SLF001 - see above

    @contextmanager
    def front(self, mode: str, function: FunctionName) -> Iterator[str]:
        """A server around a function as deployed; yields its address with the stage."""
        port = find_free_port()
        variables = self._read_variables(function)
        database = {"FOREBAY_DATABASE_URL": self.stack.primary.url()}
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "bench.load.front", mode, str(port)],
            cwd=ROOT,
            env={**build_client_environment(self.settings), **database, **variables},
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait_for(port, process)
            yield f"http://{HOST}:{port}/v1"
        finally:
            process.terminate()
            process.wait()

    def _read_variables(self, function: FunctionName) -> dict[str, str]:
        """The function's environment variables."""
        client = boto3.client(
            "lambda",
            endpoint_url=self.settings.emulator_url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=read_secret_key(self.settings),
        )
        name = self.stack.deployed.functions[function]
        variables: dict[str, str] = client.get_function_configuration(FunctionName=name)[
            "Environment"
        ]["Variables"]
        return variables


@contextmanager
def open_rig(buffering: Buffering) -> Iterator[Rig]:
    """A stack in a temporary folder, stopped at the end of the block."""
    with open_folder() as folder:
        root = folder / "sources"
        _copy_sources(root, buffering)
        settings = LocalSettings(folder / "state", Ports.from_base(_find_free_ports()), root)
        with LocalStack(settings) as stack:
            yield Rig(stack)


def _copy_sources(root: Path, buffering: Buffering) -> None:
    root.mkdir()
    for name in _SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, root / name)
    (root / "node_modules").symlink_to(ROOT / "node_modules")
    file = root / "infra" / "environments" / "local.toml"
    text = file.read_text(encoding="utf-8")
    text, sizes = re.subn(
        r"buffer_mebibytes = \d+", f"buffer_mebibytes = {buffering.mebibytes}", text
    )
    text, times = re.subn(r"buffer_seconds = \d+", f"buffer_seconds = {buffering.seconds}", text)
    if (sizes, times) != (1, 1):
        raise ValueError(f"{file} does not say how the stream buffers")
    file.write_text(text, encoding="utf-8")


def _find_free_ports() -> int:
    """The first of five consecutive free ports."""
    while True:
        base = random.choice(_BASE_PORTS)
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as sockets:
            for port in range(base, base + _PORTS):
                sockets.enter_context(contextlib.closing(socket.create_server((HOST, port))))
            return base


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=2)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/")
            connection.getresponse()
            return
        time.sleep(_PAUSE_SECONDS)
    raise RuntimeError("the front does not answer; its complaint is above")
