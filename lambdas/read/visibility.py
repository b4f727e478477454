"""Finds out what became of a command, on a replica first, and waits for it if asked to."""

from __future__ import annotations

import time
from collections.abc import Callable

from forebay.command import KeyValue
from forebay.ids import MAX_AHEAD_MS, accepted_ms, is_command_id
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from forebay.status import Fate, Reason, Traces, fate
from lambdas.read.database import ReadDatabase, Rows
from lambdas.read.sql.rows import traces_query

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.5
#: Between looks of a client's own wait, which opens a connection for each of them.
_LONGEST_FREE_PAUSE_SECONDS = 1.0
#: A shorter pause is not worth another connection.
_SHORTEST_FREE_PAUSE_SECONDS = 0.2


class Visibility:
    """What can be seen of commands."""

    def __init__(
        self,
        database: ReadDatabase,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._clock = clock
        self._sleep = sleep

    def on_replica(
        self,
        spec: ResourceSpec,
        key: KeyValue,
        command_id: str,
        *,
        wait_seconds: float,
        frees_connection: bool = False,
    ) -> tuple[Fate, Traces]:
        """What a replica shows, looking again until it is settled or the time is up.

        Args:
            spec: of the resource.
            key: of the item.
            command_id: of the command to look for.
            wait_seconds: how long to look again; 0 looks once.
            frees_connection: hold no connection to the database between the looks, but for pauses
                of less than 0.2 s.
        """
        query = traces_query(spec, key, command_id)
        longest = _LONGEST_FREE_PAUSE_SECONDS if frees_connection else _LONGEST_PAUSE_SECONDS
        deadline = self._clock() + wait_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            traces = _traces(self._database.fetch(query))
            found = fate(command_id, traces)
            left = deadline - self._clock()
            if found != "pending" or left <= 0:
                return found, traces
            if frees_connection and pause >= _SHORTEST_FREE_PAUSE_SECONDS:
                self._database.release()
            self._sleep(min(pause, left))
            pause = min(pause * 2, longest)

    def on_primary(self, spec: ResourceSpec, key: KeyValue, command_id: str) -> Fate:
        """What the primary shows, asked once."""
        rows = self._database.fetch_from_primary(traces_query(spec, key, command_id))
        return fate(command_id, _traces(rows))


def read_command_id(text: str, code: str, where: str, now_ms: int) -> str:
    """A command id that a client sent.

    Raises:
        ProblemError: with that code; it is none, or of a time that has not come.
    """
    if not is_command_id(text):
        raise ProblemError(Problem(code, f"{where}: {text[:80]!r} is no command id"))
    if accepted_ms(text) > now_ms + MAX_AHEAD_MS:
        raise ProblemError(Problem(code, f"{where}: {text} is of a time that has not come"))
    return text


def _traces(rows: Rows) -> Traces:
    version, by_create, tombstone, code, detail, sqlstate = rows[0]
    return Traces.of_columns(
        version,
        by_create=by_create,
        tombstone=tombstone,
        rejection=None if code is None else Reason(code, detail, sqlstate),
    )
