"""Consumers as in production: a process and a connection each, warm before the measurement."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import SpawnProcess
from pathlib import Path

from bench import orders
from bench.machine import measure_own_peak_mebibytes
from forebay.apply import Chunk, Counts, Habits, Outcome, Source, apply, read_ahead
from forebay.archive.lines import read_chunks
from forebay.archive.read_ahead import ReadAhead, read_one_ahead
from forebay.collector import collect_seldom
from forebay.db.connect import connect
from forebay.decisions.decision_log import DecisionLog
from ops.archive.store import Folder

_STATEMENT_TIMEOUT_MS = 240_000
_LOCK_TIMEOUT_MS = 60_000
_STOP: None = None


@dataclass(frozen=True, slots=True)
class Order:
    """Objects to apply."""

    keys: tuple[str, ...]
    replay: bool


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a consumer."""

    counts: Counts
    peak_mebibytes: float


class Consumers:
    """Consumers of the same archive and database."""

    def __init__(self, pipes: Sequence[Pipe]) -> None:
        self._pipes = pipes
        #: The largest resident memory of any of them so far.
        self.peak_mebibytes = 0.0

    def apply(self, keys: Sequence[str], *, replay: bool = False) -> Counts:
        """Apply the objects, each with one of the consumers; return the counts of their lines.

        Each consumer gets every n-th object, as pollers of one queue would share them.
        """
        count = len(self._pipes)
        for index, pipe in enumerate(self._pipes):
            pipe.send(Order(tuple(keys[index::count]), replay))
        total = Counts()
        for pipe in self._pipes:
            reply = pipe.recv()
            if isinstance(reply, BaseException):
                raise reply
            total += reply.counts
            self.peak_mebibytes = max(self.peak_mebibytes, reply.peak_mebibytes)
        return total


@contextmanager
def running(count: int, *, url: str, folder: Path) -> Iterator[Consumers]:
    """Start this number of consumers, connected; they end with the block."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as resources:
        pipes: list[Pipe] = []
        for _ in range(count):
            pipe_end, consumer_end = context.Pipe()
            process = context.Process(
                target=_consume, args=(consumer_end, url, folder), daemon=True
            )
            process.start()
            resources.callback(_end, process, pipe_end)
            pipes.append(pipe_end)
        for pipe in pipes:
            pipe.recv()
        yield Consumers(pipes)


def _end(process: SpawnProcess, pipe: Pipe) -> None:
    if process.is_alive():
        pipe.send(_STOP)
    process.join()


def _consume(pipe: Pipe, url: str, folder: Path) -> None:
    """Run a consumer process: apply the objects of each order until the stop order."""
    archive = Folder(folder)
    habits = Habits()  # kept between calls, as in the consumer's handler
    with connect(
        url,
        application_name="forebay-consumer",
        statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
        lock_timeout_ms=_LOCK_TIMEOUT_MS,
    ) as connection:
        connection.execute("SELECT 1")
        collect_seldom()  # as the consumer's handler does
        decision_log = DecisionLog(connection, archive, orders.RESOURCES, ownership="adopt")
        decision_log.follow()
        pipe.send("ready")
        while (order := pipe.recv()) is not _STOP:
            try:
                counts = Counts()
                for key, lines in read_one_ahead(order.keys, partial(_begin, archive)):
                    result: Outcome = apply(
                        connection,
                        lines,
                        Source(key, replay=order.replay),
                        resources=orders.RESOURCES,
                        decision_log=decision_log,
                        habits=habits,
                    )
                    counts += result.counts
            except BaseException as exc:
                pipe.send(exc)
                raise
            pipe.send(Done(counts, measure_own_peak_mebibytes()))


def _begin(archive: Folder, key: str) -> ReadAhead[Chunk]:
    return read_ahead(read_chunks(archive.read(key)), orders.RESOURCES)
