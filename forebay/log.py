"""One JSON line per event, with the same keys everywhere, for functions with many cold starts.

The consumer, which starts rarely, logs through powertools; these lines have the same shape.
"""

from __future__ import annotations

import datetime as dt
import sys
from typing import Any, Literal

import orjson

Level = Literal["INFO", "WARNING", "ERROR"]


class Log:
    """Writes events of one service to standard output, which Lambda collects."""

    def __init__(self, service: str) -> None:
        self._service = service

    def event(self, action: str, *, level: Level = "INFO", **fields: Any) -> None:  # noqa: ANN401
        """Write an event; `action` is its stable name."""
        line = {
            "level": level,
            "timestamp": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
            "service": self._service,
            "action": action,
            **fields,
        }
        sys.stdout.write(orjson.dumps(line, default=str).decode() + "\n")
        sys.stdout.flush()
