"""Durable storage of accepted lines: in the delivery stream, or in the archive as a fallback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from forebay.errors import TransientError
from forebay.intake.commands import Line
from forebay.log import Log


class Sink(Protocol):
    """A destination for lines, such as a delivery stream."""

    last_error: str | None

    def put(self, lines: Sequence[bytes]) -> set[int]:
        """Send lines; return the indexes of those that were not acknowledged."""


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
    by_fallback: int = 0


class Acceptor:
    """Storage of commands under law 1: a line reported as accepted is durably stored."""

    def __init__(self, sink: Sink, store: CommandStore, log: Log) -> None:
        self._sink = sink
        self._store = store
        self._log = log

    def accept(self, lines: Sequence[Line]) -> Acceptance:
        """Store lines in the stream; those that it does not acknowledge, in the archive."""
        unacknowledged = self._sink.put([line.data for line in lines])
        if not unacknowledged:
            return Acceptance(lines)
        remaining = [lines[index] for index in sorted(unacknowledged)]
        reason = self._sink.last_error
        try:
            self._store.write_commands([line.data for line in remaining], remaining[0].command.id)
        except TransientError as exc:
            self._log.event(
                "not_accepted",
                level="ERROR",
                commands=len(remaining),
                stream=reason,
                archive=str(exc),
            )
            streamed = [line for index, line in enumerate(lines) if index not in unacknowledged]
            return Acceptance(streamed, remaining)
        self._log.event("fallback_used", level="WARNING", commands=len(remaining), stream=reason)
        return Acceptance(lines, by_fallback=len(remaining))
