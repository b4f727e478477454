"""The output of `forebay rejections`: tables for people, and members of JSON results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from rich.table import Table

from ops.console import Console, build_table, shorten
from ops.rejections.deciding import DecisionCounts
from ops.rejections.planning import VERDICTS, Attempt
from ops.rejections.store import Stored

_DETAIL = 80  # characters


def describe_subject(rejected: Stored) -> str:
    """Return the command as text; for an invalid line, the name of its object."""
    if rejected.resource is None:
        return rejected.object
    return f"{rejected.op} {rejected.resource} {rejected.key}"


@dataclass(slots=True)
class Survey:
    """The effects of a retry."""

    #: Number of rejections by verdict.
    counts: Counter[str] = field(default_factory=Counter)
    #: The first attempts, as many as are shown.
    shown: list[Attempt] = field(default_factory=list)
    #: The ids of all examined rejections; later rejections are left to the next retry.
    ids: list[str] = field(default_factory=list)
    #: Number of retries that earlier calls have begun but not finished.
    begun: int = 0

    @property
    def ready(self) -> int:
        """The number of commands that would be sent."""
        return self.counts["ready"]


def tabulate_rejections(shown: Sequence[Stored]) -> Table:
    """Build the table of `forebay rejections list`."""
    return build_table(
        ["id", "rejected at", "command or object", "code", "state", "detail"],
        [
            (
                stored.id,
                f"{stored.rejected_at:%F %T}",
                describe_subject(stored),
                stored.code,
                stored.state,
                shorten(stored.detail, _DETAIL),
            )
            for stored in shown
        ],
    )


def tabulate_attempts(shown: Sequence[Attempt]) -> Table:
    """Build the table of the commands that a retry would send or leave out."""
    return build_table(
        ["rejection", "command or object", "code", "rule", "verdict", "change or reason"],
        [
            (
                attempt.stored.id,
                describe_subject(attempt.stored),
                attempt.stored.code,
                attempt.rule,
                attempt.verdict,
                attempt.reason or _describe_changes(attempt),
            )
            for attempt in shown
        ],
    )


def _describe_changes(attempt: Attempt) -> str:
    """Return the members that differ, with their values before and after."""
    before, after = _flatten(attempt.before), _flatten(attempt.after)
    return (
        "; ".join(
            f"{name}: {shorten(_format(before, name), 40)} → {shorten(_format(after, name), 40)}"
            for name in [*before, *(name for name in after if name not in before)]
            if _format(before, name) != _format(after, name)
        )
        or "unchanged"
    )


def _flatten(document: Any) -> dict[str, Any]:  # noqa: ANN401 - the members of a command
    return {
        **(document["body"] or {}),
        "(resource)": document["resource"],
        "(key)": document["key"],
        **({"(condition)": document["if"]} if "if" in document else {}),
    }


def _format(members: dict[str, Any], name: str) -> str:
    return orjson.dumps(members[name]).decode() if name in members else "(missing)"


def describe_others(survey: Survey) -> str:
    """Return the sentence about the commands that a retry leaves out."""
    counts = survey.counts
    others = [f"{counts[verdict]:,} {verdict}" for verdict in VERDICTS[1:] if counts[verdict]]
    sentence = f"Left out: {', '.join(others)}." if others else "No command is left out."
    return sentence + (
        f" Begun earlier and not finished: {survey.begun:,}." if survey.begun else ""
    )


def print_retry(
    console: Console, survey: Survey, counts: DecisionCounts | None, *, dry_run: bool
) -> None:
    """Print the result of a retry; `counts` is None if no command was sent."""
    sentence = f"{survey.ready:,} would be sent again." if dry_run else ""
    if counts is not None:
        sentence = f"{counts.recorded:,} sent again."
    console.result(
        {
            "dry_run": dry_run,
            "verdicts": {verdict: survey.counts[verdict] for verdict in VERDICTS},
            "begun": survey.begun,
            "sent": counts.recorded if counts else 0,
            "waiting": counts.waiting if counts else 0,
            "taken": counts.taken if counts else 0,
            "commands": [
                {
                    "rejection": attempt.stored.id,
                    "verdict": attempt.verdict,
                    "reason": attempt.reason,
                    "rule": attempt.rule,
                    "before": attempt.before,
                    "after": attempt.after,
                }
                for attempt in survey.shown
            ],
        },
        f"{sentence} {describe_others(survey)}",
    )


def build_row(stored: Stored) -> dict[str, Any]:
    """Return a rejection as a member of a JSON result."""
    return {
        "id": stored.id,
        "rejected_at": stored.rejected_at,
        "resource": stored.resource,
        "key": stored.key,
        "op": stored.op,
        "code": stored.code,
        "sqlstate": stored.sqlstate,
        "detail": stored.detail,
        "object": stored.object,
        "state": stored.state,
        "command": stored.command,
        "by": stored.by,
        "decided_at": stored.decided_at,
        "rule": stored.rule,
        "reason": stored.reason,
    }
