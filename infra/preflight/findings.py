"""The results of the checks, and how they are printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    #: The deployment may succeed; an operator should read the line.
    WARNING = "warning"
    #: The deployment fails, or the environment does not work after it.
    WILL_FAIL = "will fail"
    #: AWS did not answer the check's call, so its result is unknown.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check of one object."""

    state: State
    #: The check's name, as `lambda concurrency`.
    check: str
    #: The object in the account or in the settings.
    object: str
    detail: str
    #: Empty if no step is needed.
    next_step: str = ""

    def __str__(self) -> str:
        line = f"{self.state:<9}  {self.check}: {self.object}: {self.detail}"
        return f"{line}; {self.next_step}" if self.next_step else line


#: The exit code is that of the worst state: certain failures outrank unanswered calls.
EXIT_FINE: Final = 0
EXIT_WILL_FAIL: Final = 1
EXIT_UNKNOWN: Final = 2


def choose_exit_code(findings: Sequence[Finding]) -> int:
    """1 if anything will fail, else 2 if a call was not answered, else 0."""
    states = {finding.state for finding in findings}
    if State.WILL_FAIL in states:
        return EXIT_WILL_FAIL
    return EXIT_UNKNOWN if State.UNKNOWN in states else EXIT_FINE


def format_lines(findings: Sequence[Finding]) -> str:
    """One line per finding, and a last line that counts the states."""
    counts = ", ".join(
        f"{sum(finding.state is state for finding in findings)} {state}" for state in State
    )
    return "\n".join([*(str(finding) for finding in findings), counts])


def format_json(findings: Sequence[Finding]) -> str:
    """The findings as a JSON array of objects."""
    return json.dumps(
        [
            {
                "state": finding.state,
                "check": finding.check,
                "object": finding.object,
                "detail": finding.detail,
                "next_step": finding.next_step,
            }
            for finding in findings
        ],
        indent=2,
    )
