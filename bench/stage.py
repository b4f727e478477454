"""What a comparison gets to work with: how many rounds, a folder, and Postgres when it asks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from bench.harness import say
from bench.postgres import Database, new_database, running_server, settings_of
from local.postgres.config import Cluster

_SETTINGS = (
    *("server_version", "fsync", "full_page_writes", "synchronous_commit", "wal_level"),
    *("shared_buffers", "max_wal_size", "checkpoint_timeout", "wal_compression"),
)


class Stage:
    """One run's means."""

    def __init__(self, opened: ExitStack, folder: Path, *, quick: bool, rounds: int | None) -> None:
        self._opened = opened
        self._rounds = rounds
        self.folder = folder
        #: A tenth of the rows: for trying the benchmark, not for figures.
        self.quick = quick

    def rounds(self, usual: int) -> int:
        """How often each contender runs."""
        return self._rounds or (1 if self.quick else usual)

    def size(self, usual: int) -> int:
        """How many items a contender handles."""
        return max(1, usual // 10) if self.quick else usual

    @cached_property
    def cluster(self) -> Cluster:
        """The run's Postgres; started when first asked for."""
        say("  starting Postgres")
        return self._opened.enter_context(running_server())

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A new database, dropped at the end of the block."""
        with new_database(self.cluster) as database:
            yield database

    def postgres_settings(self) -> dict[str, str]:
        """What the server runs with."""
        return settings_of(self.cluster, _SETTINGS)


@contextmanager
def open_stage(*, quick: bool, rounds: int | None) -> Iterator[Stage]:
    """A stage; what it started is stopped, and its folder removed, at the end of the block."""
    with ExitStack() as opened:
        name = opened.enter_context(tempfile.TemporaryDirectory(prefix="forebay-bench-"))
        yield Stage(opened, Path(name), quick=quick, rounds=rounds)
