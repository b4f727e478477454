"""Gets lines accepted: by the delivery stream or, where it fails, by the archive itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from forebay.errors import TransientError
from forebay.intake.commands import Line
from forebay.log import Log


class Sink(Protocol):
    """Something that takes lines, such as a delivery stream."""

    last_error: str | None

    def put(self, lines: Sequence[bytes]) -> set[int]:
        """The indexes of the lines that were not acknowledged."""


class CommandStore(Protocol):
    """The archive, as far as the fallback needs it."""

    def write_commands(self, lines: Sequence[bytes], command_id: str) -> None:
        """Stores lines as one object; raises TransientError."""


class Acceptor:
    """Law 1: what it reports as accepted is stored where it outlives us."""

    def __init__(self, sink: Sink, store: CommandStore, log: Log) -> None:
        self._sink = sink
        self._store = store
        self._log = log

    def accept(self, lines: Sequence[Line]) -> set[int]:
        """Gets every line stored; the indexes of those that no one acknowledged.

        Such a line may still have been stored (an answer can get lost), but it was not accepted. A
        client that sends the write again makes another command.
        """
        refused = sorted(self._sink.put([line.data for line in lines]))
        if not refused:
            return set()
        rest = [lines[index] for index in refused]
        first_id = rest[0].command.id
        reason = self._sink.last_error
        try:
            self._store.write_commands([line.data for line in rest], first_id)
        except TransientError as exc:
            self._log.event(
                "not_accepted", level="ERROR", commands=len(rest), stream=reason, archive=str(exc)
            )
            return set(refused)
        self._log.event("fallback_used", level="WARNING", commands=len(rest), stream=reason)
        return set()
