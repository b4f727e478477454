"""Events of the shared code, told to the operator: standard output is for results."""

from __future__ import annotations

from typing import Any

from forebay.log import Level, Log
from ops.console import Console


class ConsoleLog(Log):
    """Says events of warning or worse on standard error."""

    def __init__(self, console: Console) -> None:
        super().__init__("ops")
        self._console = console

    def event(self, action: str, *, level: Level = "INFO", **fields: Any) -> None:  # noqa: ANN401
        """See Log."""
        if level != "INFO":
            told = ", ".join(f"{name} {value}" for name, value in fields.items())
            self._console.note(f"{action.replace('_', ' ')}: {told}")
