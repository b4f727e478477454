"""The log of a function: one JSON line per event, with the same members in every function."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, Self, get_args

import orjson

from forebay.errors import SettingsError
from forebay.ids import milliseconds
from forebay.metrics import Metric, build_dimensions, describe
from forebay.settings import required

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_LEVELS: Final[tuple[Level, ...]] = get_args(Level)  # ascending


class Log:
    """Writes events of one service to standard output, which Lambda collects."""

    def __init__(self, service: str, environment: str = "local", level: Level = "INFO") -> None:
        """Create the log.

        Args:
            service: the function's name in its lines.
            environment: the environment's name, a dimension of the metrics.
            level: events below it are dropped, unless they contain metrics.
        """
        self._service = service
        self._dimensions = build_dimensions(service, environment)
        self._dropped = frozenset(_LEVELS[: _LEVELS.index(level)])

    @classmethod
    def of(cls, service: str, environment: Mapping[str, str]) -> Self:
        """Create the log of a function from its environment variables.

        Raises:
            forebay.errors.SettingsError: FOREBAY_ENV is missing, or FOREBAY_LOG_LEVEL is unknown.
        """
        level = environment.get("FOREBAY_LOG_LEVEL") or "INFO"
        if level not in _LEVELS:
            raise SettingsError(f"FOREBAY_LOG_LEVEL={level!r} must be one of {', '.join(_LEVELS)}")
        return cls(service, required(environment, "FOREBAY_ENV"), level)

    def event(
        self,
        action: str,
        *,
        level: Level = "INFO",
        metrics: Mapping[Metric, float] | None = None,
        **fields: Any,  # noqa: ANN401 - any value with a JSON form
    ) -> None:
        """Write an event.

        Args:
            action: the event's stable name.
            level: its level.
            metrics: values of the service's metrics, which CloudWatch adds up.
            **fields: further members of the line.
        """
        if level in self._dropped and not metrics:
            return
        now = dt.datetime.now(dt.UTC)
        line = {
            "level": level,
            "timestamp": now.isoformat(timespec="milliseconds"),
            "service": self._service,
            "action": action,
            **fields,
        }
        if metrics:
            line |= self._dimensions
            line |= {metric.name: value for metric, value in metrics.items()}
            line["_aws"] = describe(metrics, milliseconds(now))
        sys.stdout.write(orjson.dumps(line, default=str).decode() + "\n")
        sys.stdout.flush()
