"""Durable storage of accepted lines: in the delivery stream, or in the archive as a fallback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from forebay.errors import TransientError, UnacknowledgedError
from forebay.intake.commands import Line
from forebay.log import Log


class Sink(Protocol):
    """A destination for lines, such as a delivery stream."""

    def put(self, lines: Sequence[bytes]) -> None:
        """Send lines.

        Raises:
            UnacknowledgedError: some lines were not acknowledged; all others are stored.
        """


class CommandStore(Protocol):
    """The part of the archive that the fallback uses."""

    def write_commands(self, lines: Sequence[bytes], command_id: str) -> None:
        """Store lines as one object.

        Raises:
            TransientError: the object may or may not be stored.
        """


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The lines that are durably stored, and the others; each in the order of the request."""

    accepted: Sequence[Line]
    #: No store acknowledged these lines. Such a line may be stored, because an acknowledgement can
    #: get lost. Without an idempotency record, a repetition of the write makes another command.
    not_accepted: Sequence[Line] = ()
    #: The number of accepted lines that the archive stored in the stream's place.
    fallback_count: int = 0


class Acceptor:
    """Storage of commands under law 1: a line reported as accepted is durably stored."""

    def __init__(self, sink: Sink, store: CommandStore, log: Log) -> None:
        self._sink = sink
        self._store = store
        self._log = log

    def accept(self, lines: Sequence[Line]) -> Acceptance:
        """Store lines in the stream; those that it does not acknowledge, in the archive."""
        try:
            self._sink.put([line.data for line in lines])
        except UnacknowledgedError as exc:
            return self._fall_back(lines, exc)
        return Acceptance(lines)

    def _fall_back(self, lines: Sequence[Line], error: UnacknowledgedError) -> Acceptance:
        """Store in the archive the lines that the stream did not acknowledge."""
        remaining = [lines[index] for index in sorted(error.indexes)]
        try:
            self._store.write_commands([line.data for line in remaining], remaining[0].command.id)
        except TransientError as exc:
            self._log.event(
                "not_accepted",
                level="ERROR",
                commands=len(remaining),
                stream=error.reason,
                archive=str(exc),
            )
            streamed = [line for index, line in enumerate(lines) if index not in error.indexes]
            return Acceptance(streamed, remaining)
        self._log.event(
            "fallback_used", level="WARNING", commands=len(remaining), stream=error.reason
        )
        return Acceptance(lines, fallback_count=len(remaining))
