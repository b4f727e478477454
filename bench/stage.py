"""The resources of a comparison: the number of rounds, a folder, and Postgres on demand."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from bench.harness import say
from bench.postgres import Database, new_database, running_server, settings_of
from local.postgres.config import Cluster
from local.postgres.throwaway import find_free_port
from local.read_cache import build_command, is_answering

_SETTINGS = (
    *("server_version", "fsync", "full_page_writes", "synchronous_commit", "wal_level"),
    *("shared_buffers", "max_wal_size", "checkpoint_timeout", "wal_compression"),
)

_QUICK_DIVISOR = 10


class Stage:
    """The resources of a run."""

    def __init__(
        self,
        opened: ExitStack,
        folder: Path,
        *,
        quick: bool,
        rounds: int | None,
        chosen_size: int | None = None,
        divisor: int = _QUICK_DIVISOR,
    ) -> None:
        self._opened = opened
        self._rounds = rounds
        self._divisor = divisor
        self.folder = folder
        #: The number of items, if the operator has chosen it; some comparisons use it.
        self.chosen_size = chosen_size
        #: A part of the rows: for trying the benchmark, not for figures.
        self.quick = quick

    def rounds(self, usual: int) -> int:
        """The number of rounds of each contender."""
        return self._rounds or (1 if self.quick else usual)

    def size(self, usual: int) -> int:
        """The number of items that a contender handles."""
        return max(1, usual // self._divisor) if self.quick else usual

    @cached_property
    def cluster(self) -> Cluster:
        """The run's Postgres, started at its first use."""
        say("  starting Postgres")
        return self._opened.enter_context(running_server())

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A new database, dropped at the end of the block."""
        with new_database(self.cluster) as database:
            yield database

    @contextmanager
    def bare_database(self) -> Iterator[Database]:
        """A new database with the migrations' tables only."""
        with new_database(self.cluster, {}) as database:
            yield database

    @cached_property
    def read_cache(self) -> str:
        """The address of the run's Valkey, started at its first use."""
        say("  starting Valkey")
        port = find_free_port()
        process = subprocess.Popen(  # noqa: S603
            build_command(port, self.folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self._opened.callback(process.wait)
        self._opened.callback(process.terminate)
        while not is_answering(port):
            if process.poll() is not None:
                raise RuntimeError(f"Valkey ended with {process.returncode}")
            time.sleep(0.01)
        return f"valkey://127.0.0.1:{port}"

    def postgres_settings(self) -> dict[str, str]:
        """The server's parameters that affect speed."""
        return settings_of(self.cluster, _SETTINGS)


@contextmanager
def open_stage(
    *,
    quick: bool,
    rounds: int | None,
    chosen_size: int | None = None,
    divisor: int = _QUICK_DIVISOR,
) -> Iterator[Stage]:
    """A stage; its servers are stopped, and its folder removed, at the end of the block.

    Args:
        quick: whether contenders handle only a part of the items.
        rounds: of each contender; by default as many as the comparison usually has.
        chosen_size: the number of items that the operator has chosen.
        divisor: of the usual number of items in a quick run.
    """
    with ExitStack() as resources:
        name = resources.enter_context(tempfile.TemporaryDirectory(prefix="forebay-bench-"))
        yield Stage(
            resources,
            Path(name),
            quick=quick,
            rounds=rounds,
            chosen_size=chosen_size,
            divisor=divisor,
        )
