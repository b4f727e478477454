"""Determines the status of a command, on a replica first, and waits for it if requested."""

from __future__ import annotations

import time
from collections.abc import Callable

from forebay.command import KeyValue
from forebay.ids import MAX_AHEAD_MS, accepted_ms, is_command_id
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from forebay.status import CommandStatus, Patches, Reason, Traces, find_status
from lambdas.read.database import ReadDatabase, Rows
from lambdas.read.sql.rows import traces_query

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.5
#: Between the queries of a client's own wait, which opens a connection for each of them.
_LONGEST_FREE_PAUSE_SECONDS = 1.0
#: For a shorter pause the connection is kept.
_SHORTEST_FREE_PAUSE_SECONDS = 0.2


class Visibility:
    """Looks up the status of commands."""

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
    ) -> tuple[CommandStatus, Traces]:
        """The status on a replica, queried until it is not pending or the time is up.

        Args:
            spec: the resource.
            key: the item's key.
            command_id: the command to look up.
            wait_seconds: how long to repeat the query; 0 for a single query.
            frees_connection: close the connection between the queries, except for pauses below
                0.2 s.
        """
        query = traces_query(spec, key, command_id)
        longest = _LONGEST_FREE_PAUSE_SECONDS if frees_connection else _LONGEST_PAUSE_SECONDS
        deadline = self._clock() + wait_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            traces = _read_traces(self._database.fetch(query))
            status = find_status(command_id, traces)
            remaining = deadline - self._clock()
            if status != "pending" or remaining <= 0:
                return status, traces
            if frees_connection and pause >= _SHORTEST_FREE_PAUSE_SECONDS:
                self._database.release()
            self._sleep(min(pause, remaining))
            pause = min(pause * 2, longest)

    def on_primary(self, spec: ResourceSpec, key: KeyValue, command_id: str) -> CommandStatus:
        """The status on the primary, queried once."""
        rows = self._database.fetch_from_primary(traces_query(spec, key, command_id))
        return find_status(command_id, _read_traces(rows))


def read_command_id(text: str, code: str, where: str, now_ms: int) -> str:
    """Check a command id that a client sent.

    Raises:
        ProblemError: with `code`: the text is not a command id, or its time is in the future.
    """
    if not is_command_id(text):
        raise ProblemError(Problem(code, f"{where}: {text[:80]!r} is no command id"))
    if accepted_ms(text) > now_ms + MAX_AHEAD_MS:
        raise ProblemError(Problem(code, f"{where}: {text} is of a time that has not come"))
    return text


def _read_traces(rows: Rows) -> Traces:
    version, by_create, tombstone, *reason, fields, kept, recent, effective_id = rows[0]
    return Traces.of_columns(
        version,
        by_create=by_create,
        tombstone=tombstone,
        rejection=None if reason[0] is None else Reason(*reason),
        patches=Patches((fields or {}).values(), kept or (), recent or ()),
        effective_id=effective_id,
    )
