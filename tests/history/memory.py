"""Measure the memory of each part of the stack while it runs."""

import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

from infra.settings import FunctionName
from tests.fixtures.faulty import FaultyStack

_LOOK_SECONDS = 2.0
_FUNCTIONS: tuple[FunctionName, ...] = ("write", "read", "firehose_consumer")
_SERVERS = ("gateway", "firehose", "emulator")
_MIB = 2**20
_FEWEST = 8  # measurements that a growth needs


@dataclass
class Memory:
    """Resident memory over time in MiB; for a function, that of its largest instance."""

    stack: FaultyStack
    #: By part, pairs of seconds since the start and MiB.
    looks: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measure while the block runs."""
        looker = threading.Thread(target=self._watch, daemon=True)
        looker.start()
        try:
            yield
        finally:
            self._ended.set()
            looker.join()

    def growth(self, part: str) -> float | None:
        """The last quarter's median divided by the second's; None with too few measurements.

        The first quarter doesn't count: modules are loaded and caches filled in it.
        """
        sizes = [size for _, size in self.looks[part]]
        quarter = len(sizes) // 4
        if len(sizes) < _FEWEST:
            return None
        second, last = sizes[quarter : 2 * quarter], sizes[-quarter:]
        return statistics.median(last) / statistics.median(second)

    def summary(self) -> dict[str, dict[str, float | None]]:
        """The first, greatest and last measurement in MiB, and the growth, of each part."""
        return {
            part: {
                "first": round(looks[0][1], 1),
                "most": round(max(size for _, size in looks), 1),
                "last": round(looks[-1][1], 1),
                "growth": None if (growth := self.growth(part)) is None else round(growth, 3),
            }
            for part, looks in sorted(self.looks.items())
        }

    def _watch(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(_LOOK_SECONDS):
            at = time.monotonic() - began
            for name in _SERVERS:
                self._look(at, name, [psutil.Process(self.stack.child(name).process.pid)])
            for function in _FUNCTIONS:
                self._look(at, function, self.stack.workers(function))

    def _look(self, at: float, part: str, processes: list[psutil.Process]) -> None:
        sizes = []
        for process in processes:
            with suppress(psutil.Error):
                sizes.append(process.memory_info().rss / _MIB)
        if sizes:
            self.looks[part].append((round(at, 1), max(sizes)))
