"""The status of `GET /status`: `ok`, `late` or `attention`, with its reasons.

`late` is a delay that ends by itself; `attention` needs an operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Severity: TypeAlias = Literal["late", "attention"]
Status: TypeAlias = Literal["ok", "late", "attention"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits above which a number becomes a reason."""

    #: For the age of an archive object that is not applied, and for the replica's lag.
    late_seconds: float
    #: For the age of an archive object that is not applied, and of a patch that waits for its item:
    #: such a delay does not end by itself.
    attention_seconds: float
    open_rejections: float


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason why the status is not `ok`."""

    #: A code of `forebay.openapi.schemas.STATUS_REASONS`.
    code: str
    severity: Severity
    detail: str

    def to_json(self) -> dict[str, str]:
        """The reason as a member of the document."""
        return {"code": self.code, "severity": self.severity, "detail": self.detail}


def judge(document: Mapping[str, Any], thresholds: Thresholds) -> list[Reason]:
    """The reasons why the status is not `ok`, the serious ones first."""
    reasons = [
        *_judge_servers(document),
        *_judge_leftovers(document, thresholds),
        *_judge_waiting(document["waiting"], thresholds),
        *_judge_objects(document["archive"], thresholds),
        *_judge_replica(document["database"], thresholds),
    ]
    return sorted(reasons, key=lambda reason: reason.severity != "attention")


def choose_status(reasons: Sequence[Reason]) -> Status:
    """The greatest severity of the reasons."""
    severities = {reason.severity for reason in reasons}
    if "attention" in severities:
        return "attention"
    return "late" if severities else "ok"


def _judge_servers(document: Mapping[str, Any]) -> Iterator[Reason]:
    if document["database"]["state"] == "unreachable":
        yield Reason(
            "database_unreachable",
            "attention",
            "no database answers reads; writes are accepted and kept in the archive",
        )
    if document["archive"]["state"] == "unreachable":
        yield Reason(
            "archive_unreachable",
            "attention",
            "the archive can't be listed, so the number of objects not applied is unknown",
        )
    if document["dead_letters"] is None:
        yield Reason("dead_letters_unknown", "attention", "the dead-letter queue does not answer")


def _judge_leftovers(document: Mapping[str, Any], thresholds: Thresholds) -> Iterator[Reason]:
    letters, rejections = document["dead_letters"], document["rejections"]
    if letters and letters["messages"]:
        yield Reason(
            "dead_letters",
            "attention",
            f"{letters['messages']:,} messages about archive objects failed too often and wait "
            "for an operator",
        )
    if rejections and rejections["open"] > thresholds.open_rejections:
        yield Reason(
            "rejections_open",
            "attention",
            f"{rejections['open']:,} rejected commands wait for an operator's decision",
        )


def _judge_waiting(waiting: Mapping[str, Any] | None, thresholds: Thresholds) -> Iterator[Reason]:
    if waiting is None or waiting["oldest_seconds"] is None:
        return
    age = waiting["oldest_seconds"]
    if age > thresholds.attention_seconds:
        yield Reason(
            "commands_waiting",
            "attention",
            f"{waiting['commands']:,} patches wait for an item; the oldest was accepted "
            f"{age:,.0f} s ago",
        )


def _judge_objects(archive: Mapping[str, Any], thresholds: Thresholds) -> Iterator[Reason]:
    oldest = archive["oldest_unapplied"]
    if oldest is None or oldest["age_seconds"] <= thresholds.late_seconds:
        return
    age = oldest["age_seconds"]
    yield Reason(
        "objects_not_applied",
        "attention" if age > thresholds.attention_seconds else "late",
        f"{archive['unapplied_objects']:,} archive objects are not applied; the oldest was "
        f"stored {age:,.0f} s ago",
    )


def _judge_replica(database: Mapping[str, Any], thresholds: Thresholds) -> Iterator[Reason]:
    lag = database["replica_lag_seconds"]
    if lag is None or lag <= thresholds.late_seconds:
        return
    if database["streaming"]:
        detail = f"the replica is {lag:,.0f} s behind its primary"
    else:
        detail = f"the replica gets no changes from its primary; its last one is {lag:,.0f} s old"
    yield Reason("replica_behind", "late", detail)
