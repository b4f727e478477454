"""Compare the effects of decided commands in the database with those of the decision log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from forebay.archive.decisions import LogEntry
from forebay.db.connect import Connection
from ops.folding.partition import Kind, Writer
from ops.folding.scan import add_effect
from ops.verify.compare import Findings
from ops.verify.decision_log import LogComparison

TABLE: Final = "forebay.effects"
_PAGE: Final = 1_000
_NIL: Final = "00000000-0000-0000-0000-000000000000"
_PASSED: Final = "passed"
_ABSENT: Final = "absent"

#: Returns the entries of the decision log, from the beginning at each call.
ReadDecisionLog = Callable[[], Iterable[LogEntry]]


def add_own_effects(
    connection: Connection, writer: Writer, log_comparison: LogComparison, cut: str
) -> None:
    """Write the effects that the database has, but not from an entry that it has taken over.

    These are decisions of a database that does not own the archive, and those of a database that
    was rebuilt to a point in time.
    """
    last = _NIL
    values = {"position": log_comparison.position, "cut": cut, "page": _PAGE}
    while page := connection.execute(_OWN, {**values, "last": last}).fetchall():
        for row in page:
            members = dict(zip(("id", *_NAMES), row[:-1], strict=True))
            members["decided_at"] = members["decided_at"].isoformat()
            add_effect(writer, Kind.OWN_EFFECT, members)
        last = page[-1][0]


def check_effects(
    connection: Connection,
    read_decision_log: ReadDecisionLog,
    log_comparison: LogComparison,
    findings: Findings,
) -> tuple[int, int, int]:
    """Report the effects that differ from those of the log, regardless of the cut.

    Returns:
        The number of effects in the entries that the database has taken over, the number of those
        that the database has, and the number of differences.
    """
    in_archive = matching = differing = 0
    in_database = _count(connection, log_comparison)
    for page in _read_pages(read_decision_log):
        rows = _read_rows(connection, [members["id"] for _, members in page])
        for slot, members in page:
            row = rows.get(members["id"])
            is_known = slot <= log_comparison.position
            own_slot = row["slot"] if row is not None else slot
            # Of several entries with one id, the database has the first; entries that it has not
            # taken over may contradict its own decisions.
            if own_slot not in {None, slot} or (own_slot is None and not is_known):
                continue
            in_archive += is_known
            matching += is_known and row is not None
            text = _describe_difference({**members, "slot": slot}, row)
            if text is not None and (is_known or row is not None):
                findings.add(TABLE, members["id"], _PASSED, text)
                differing += 1
    if matching < in_database:
        extra = _find_extra(connection, read_decision_log, log_comparison)
        for command_id in extra:
            findings.add(TABLE, command_id, _ABSENT, _PASSED)
        differing += len(extra)
    return in_archive, in_database, differing


def _read_pages(
    read_decision_log: ReadDecisionLog,
) -> Iterator[list[tuple[int, Mapping[str, Any]]]]:
    effects = ((entry.slot, members) for entry in read_decision_log() for members in entry.effects)
    while page := list(islice(effects, _PAGE)):
        yield page


def _count(connection: Connection, log_comparison: LogComparison) -> int:
    """Return the number of effects that the log must have."""
    row = connection.execute(_COUNT, [log_comparison.position, log_comparison.is_owner]).fetchone()
    return int(row[0]) if row else 0


def _find_extra(
    connection: Connection, read_decision_log: ReadDecisionLog, log_comparison: LogComparison
) -> list[str]:
    """Return the ids of the effects that the log must have and lacks."""
    archived = {
        (slot, members["id"]) for page in _read_pages(read_decision_log) for slot, members in page
    }
    rows = connection.execute(_IDS, [log_comparison.position, log_comparison.is_owner])
    return [command_id for slot, command_id in rows if (slot, command_id) not in archived]


def _read_rows(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    rows = connection.execute(_FIND, [list(ids)]).fetchall()
    return {row[0]: dict(zip((*_NAMES, "slot"), row[1:], strict=True)) for row in rows}


def _describe_difference(members: Mapping[str, Any], row: Mapping[str, Any] | None) -> str | None:
    if row is None:
        return _ABSENT
    names = [n for n in (*_NAMES, "slot") if _read_member(n, members.get(n)) != row[n]]
    return f"{_PASSED} with other {', '.join(names)}" if names else None


def _read_member(name: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    return dt.datetime.fromisoformat(value) if name == "decided_at" else value


_NAMES: Final = ("resource", "key", "effective_id", "body", "schema", "decided_at")
_SELECT: Final = """
    SELECT id::text, resource, key, effective_id::text, body, schema, decided_at, slot
    FROM forebay.effects
"""
_OWN: Final = f"""{_SELECT}
    WHERE id > %(last)s::uuid AND id <= %(cut)s::uuid AND (slot IS NULL OR slot > %(position)s)
    ORDER BY id LIMIT %(page)s
"""
_FIND: Final = f"{_SELECT} WHERE id = ANY(%s::uuid[])"
# An owner's effects all have a number, except for a moment after it has become the owner.
_OF_LOG: Final = "FROM forebay.effects WHERE slot <= %s OR (%s AND slot IS NULL)"
_COUNT: Final = f"SELECT count(*) {_OF_LOG}"
_IDS: Final = f"SELECT slot, id::text {_OF_LOG} ORDER BY id"
