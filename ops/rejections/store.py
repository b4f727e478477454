"""Read rejections with the operators' decisions about them, and record decisions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, LiteralString

from forebay.command import Command
from forebay.db.connect import Connection
from forebay.unmet import NOT_UNMET_SQL

State = Literal["open", "unmet", "sending", "retried", "discarded", "all"]
Kind = Literal["retried", "discarded"]
STATES: tuple[State, ...] = ("open", "unmet", "sending", "retried", "discarded", "all")
PAGE = 500  # rejections


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that select rejections; all conditions that are set must hold."""

    state: State = "open"
    ids: Sequence[str] = ()
    resource: str | None = None
    key: str | None = None
    code: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None

    @property
    def values(self) -> Mapping[str, object]:
        """The parameters of `_WHERE`."""
        return {
            "state": self.state,
            "ids": list(self.ids) or None,
            "resource": self.resource,
            "key": self.key,
            "code": self.code,
            "since": self.since,
            "until": self.until,
        }


@dataclass(frozen=True, slots=True)
class Stored:
    """A rejection in the database, with the operator's decision about it."""

    id: str
    resource: str | None
    key: str | None
    op: str | None
    code: str
    sqlstate: str | None
    detail: str
    line: bytes
    object: str
    rejected_at: dt.datetime
    state: State
    #: The id of the amendment, if it was retried.
    command: str | None
    by: str | None
    decided_at: dt.datetime | None
    rule: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """An operator's decision about one rejection."""

    rejection: str
    decision: Kind
    by: str
    run: str
    at: dt.datetime
    reason: str | None = None
    #: For a retry: the amendment, and its encoded line.
    command: Command | None = None
    line: bytes | None = field(default=None, repr=False)
    rule: str | None = None


def count(connection: Connection, selection: Selection) -> list[tuple[str | None, str, int]]:
    """Count the selected rejections by resource and code, the largest count first."""
    rows = connection.execute(_COUNT + _WHERE + _GROUPED, selection.values).fetchall()
    return [(resource, code, int(number)) for resource, code, number in rows]


def list_ids(connection: Connection, selection: Selection) -> list[str]:
    """Return the ids of the selected rejections, in order."""
    rows = connection.execute(_IDS + _WHERE + " ORDER BY r.id", selection.values).fetchall()
    return [row[0] for row in rows]


def read_pages_of(
    connection: Connection, selection: Selection, ids: Sequence[str]
) -> Iterator[list[Stored]]:
    """Yield pages of the rejections that have one of the ids and are still selected.

    So a rejection that was added after the ids were read is not included.
    """
    for start in range(0, len(ids), PAGE):
        yield from read_pages(connection, replace(selection, ids=ids[start : start + PAGE]))


def read_state_time(connection: Connection) -> dt.datetime:
    """Return the time up to which the database shows rejections; a replica may be behind."""
    row = connection.execute(_STATE_AT).fetchone()
    assert row is not None  # noqa: S101 - a query without a table returns one row
    moment: dt.datetime = row[0]
    return moment


def read_pages(connection: Connection, selection: Selection) -> Iterator[list[Stored]]:
    """Yield pages of the selected rejections, in the order of their ids.

    Each page is read on request, so decisions of the caller about earlier pages do not change
    later pages.
    """
    after: str | None = None
    while True:
        values = {**selection.values, "after": after, "page": PAGE}
        rows = connection.execute(_SELECT + _WHERE + _PAGED, values).fetchall()
        if rows:
            yield [_build_stored(row) for row in rows]
        if len(rows) < PAGE:
            return
        after = str(rows[-1][0])


def list_begun(connection: Connection, decision: Kind, selection: Selection) -> list[Decision]:
    """Return unfinished decisions: a call was killed, or the archive did not accept the command.

    Args:
        connection: a connection to the primary.
        decision: the kind of the decisions.
        selection: the rejections; its state is ignored.
    """
    values = {**selection.values, "state": "all", "decision": decision}
    rows = connection.execute(_BEGUN + _WHERE + _ONLY_BEGUN, values).fetchall()
    return [
        Decision(
            rejection=rejection,
            decision=decision,
            by=by,
            run=run,
            at=at,
            reason=reason,
            rule=rule,
            line=None if line is None else bytes(line),
        )
        for rejection, by, run, at, reason, rule, line in rows
    ]


def claim(connection: Connection, decisions: Sequence[Decision]) -> set[str]:
    """Record decisions before they are carried out; return the ids of the claimed rejections.

    A rejection about which another call has decided in between is not claimed. A discarded
    rejection can still be retried.
    """
    claimed: set[str] = set()
    with connection.transaction():
        for decision in decisions:
            values = {
                "rejection": decision.rejection,
                "decision": decision.decision,
                "command": decision.command.id if decision.command else None,
                "line": decision.line,
                "rule": decision.rule,
                "reason": decision.reason,
                "by": decision.by,
                "run": decision.run,
                "at": decision.at,
            }
            if connection.execute(_CLAIM, values).rowcount == 1:
                claimed.add(decision.rejection)
    return claimed


def record(connection: Connection, rejections: Sequence[str]) -> None:
    """Mark decisions as finished: commands and audit record are in the archive."""
    connection.execute(_RECORD, [list(rejections)])


def restore(connection: Connection, lines: Sequence[Mapping[str, Any]]) -> int:
    """Add decisions from the archive's audit objects; the latest decision of a rejection wins.

    Returns:
        The number of rows that were added or changed.
    """
    changed = 0
    with connection.transaction():
        for line in lines:
            changed += connection.execute(_RESTORE, line).rowcount
    return changed


def _build_stored(row: Sequence[Any]) -> Stored:
    values = list(row)
    values[7] = bytes(values[7])  # the line
    return Stored(*values)


_FROM: LiteralString = """
    FROM forebay.rejections AS r LEFT JOIN forebay.decisions AS d ON d.rejection = r.id
"""
_STATE: LiteralString = f"""
    CASE WHEN d.decision IS NULL AND r.{NOT_UNMET_SQL} THEN 'open'
         WHEN d.decision IS NULL THEN 'unmet' WHEN d.recorded_at IS NULL THEN 'sending'
         ELSE d.decision END
"""
_SELECT: LiteralString = (
    """
    SELECT r.id::text, r.resource, r.key, r.op, r.code, r.sqlstate, r.detail, r.line, r.object,
           r.rejected_at, """
    + _STATE
    + """, d.command::text, d.by, d.decided_at, d.rule, d.reason
"""
    + _FROM
)
_COUNT: LiteralString = "SELECT r.resource, r.code, count(*)" + _FROM
_IDS: LiteralString = "SELECT r.id::text" + _FROM
_STATE_AT: LiteralString = """
    SELECT CASE WHEN pg_is_in_recovery()
           THEN coalesce(pg_last_xact_replay_timestamp(), clock_timestamp())
           ELSE clock_timestamp() END
"""
_WHERE: LiteralString = (
    """
    WHERE (%(state)s::text = 'all' OR """
    + _STATE
    + """ = %(state)s)
      AND (%(ids)s::uuid[] IS NULL OR r.id = ANY(%(ids)s::uuid[]))
      AND (%(resource)s::text IS NULL OR r.resource = %(resource)s)
      AND (%(key)s::text IS NULL OR r.key = %(key)s)
      AND (%(code)s::text IS NULL OR r.code = %(code)s)
      AND (%(since)s::timestamptz IS NULL OR r.rejected_at >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR r.rejected_at < %(until)s)
"""
)
_GROUPED: LiteralString = " GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
_PAGED: LiteralString = """
      AND (%(after)s::uuid IS NULL OR r.id > %(after)s::uuid)
    ORDER BY r.id LIMIT %(page)s
"""
_BEGUN: LiteralString = """
    SELECT d.rejection::text, d.by, d.run::text, d.decided_at, d.reason, d.rule, d.line
    FROM forebay.decisions AS d LEFT JOIN forebay.rejections AS r ON r.id = d.rejection
"""
_ONLY_BEGUN: LiteralString = """
      AND d.recorded_at IS NULL AND d.decision = %(decision)s
    ORDER BY d.command, d.rejection
"""
_CLAIM: LiteralString = """
    INSERT INTO forebay.decisions AS d
      (rejection, decision, command, line, rule, reason, by, run, decided_at)
    VALUES (%(rejection)s, %(decision)s, %(command)s, %(line)s, %(rule)s, %(reason)s, %(by)s,
            %(run)s, %(at)s)
    ON CONFLICT (rejection) DO UPDATE SET
      decision = excluded.decision, command = excluded.command, line = excluded.line,
      rule = excluded.rule, reason = excluded.reason, by = excluded.by, run = excluded.run,
      decided_at = excluded.decided_at, recorded_at = NULL
    WHERE d.decision = 'discarded' AND excluded.decision = 'retried'
"""
_RECORD: LiteralString = """
    UPDATE forebay.decisions SET recorded_at = clock_timestamp(), line = NULL
    WHERE rejection = ANY(%s::uuid[]) AND recorded_at IS NULL
"""
_RESTORE: LiteralString = """
    INSERT INTO forebay.decisions AS d
      (rejection, decision, command, rule, reason, by, run, decided_at, recorded_at)
    VALUES (%(rejection)s, %(decision)s, %(command)s, %(rule)s, %(reason)s, %(by)s, %(run)s,
            %(at)s, %(at)s)
    ON CONFLICT (rejection) DO UPDATE SET
      decision = excluded.decision, command = excluded.command, rule = excluded.rule,
      reason = excluded.reason, by = excluded.by, run = excluded.run,
      decided_at = excluded.decided_at, recorded_at = excluded.recorded_at, line = NULL
    WHERE excluded.decided_at > d.decided_at
"""
