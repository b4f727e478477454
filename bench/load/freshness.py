"""Measures the time from the answer to an accepted write until a read on the replica sees it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.load.rig import Rig

_LOOK_SECONDS = 0.05
_EVERY = 5  # every fifth command is watched


class Freshness:
    """Polls the replica for a sample of the accepted commands."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._count = 0
        self._waiting: dict[str, float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        #: Seconds until each watched command was visible.
        self.seconds: list[float] = []

    def accepted(self, command_id: str, at: float) -> None:
        """Add a command with the time of its answer."""
        self._count += 1
        if self._count % _EVERY == 0:
            with self._lock:
                self._waiting[command_id] = at

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Poll for the duration of the block."""
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            with self._lock:
                ids = list(self._waiting)
            if not ids:
                continue
            rows = self._rig.rows(
                "SELECT _version::text FROM cities WHERE _version = ANY(%s::uuid[])", ids
            )
            now = time.monotonic()
            with self._lock:
                for (version,) in rows:
                    self.seconds.append(now - self._waiting.pop(version))
