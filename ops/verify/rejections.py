"""Compare the members of the database's rejections with those of the archive.

Their presence is compared together with the commands; see `ops.verify.verify`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from forebay.db.connect import Connection
from ops.verify.compare import Findings

_TABLE: Final = "forebay.rejections"
_PAGE: Final = 1_000

#: Returns the archive's rejections, from the beginning at each call, regardless of the cut.
Archived = Callable[[], Iterable[Mapping[str, Any]]]
#: Members by name, in the form of the archive.
Members = dict[str, Any]


def check_members(connection: Connection, archived: Archived, cut: str, findings: Findings) -> int:
    """Report rejections with members that differ from those in the archive.

    Rejections of commands after the cut are reported, too, if the archive does not have them. The
    database is read first, as a rejection is archived before it is committed.

    Returns:
        The number of differences.
    """
    unarchived = _list_ids_after(connection, cut)
    differing: dict[str, list[str]] = {}
    for line, row in _pair_members(connection, archived, unarchived):
        names = _find_differing_members(line, row)
        if names:
            differing[line["id"]] = names
    # An id may have several lines in the archive, of which one has to match.
    if differing:
        for line, row in _pair_members(connection, archived, set()):
            if line["id"] in differing and not _find_differing_members(line, row):
                del differing[line["id"]]
    for rejected, names in sorted(differing.items()):
        findings.add(_TABLE, rejected, "rejected", f"rejected with other {', '.join(names)}")
    for rejected in sorted(unarchived):
        findings.add(_TABLE, rejected, "absent", "rejected")
    return len(differing) + len(unarchived)


def _list_ids_after(connection: Connection, cut: str) -> set[str]:
    rows = connection.execute(
        # A database that does not own the archive may keep rejections of its own.
        "SELECT id::text FROM forebay.rejections WHERE id > %s::uuid AND resource IS NOT NULL"
        " AND (slot IS NOT NULL OR EXISTS"
        "   (SELECT FROM forebay.decision_log AS l WHERE l.owner = l.database))",
        [cut],
    ).fetchall()
    return {row[0] for row in rows}


def _pair_members(
    connection: Connection, archived: Archived, unarchived: set[str]
) -> Iterator[tuple[Mapping[str, Any], Members]]:
    """Yield archived rejections with the rows of their ids; remove their ids from `unarchived`."""
    lines = iter(archived())
    while page := list(islice(lines, _PAGE)):
        ids = [line["id"] for line in page]
        unarchived.difference_update(ids)
        rows = _read_rows(connection, ids)
        yield from ((line, rows[line["id"]]) for line in page if line["id"] in rows)


def _read_rows(connection: Connection, ids: Sequence[str]) -> dict[str, Members]:
    rows = connection.execute(_SELECT, [list(ids)]).fetchall()
    return {row[0]: _decode_row(row) for row in rows}


def _decode_row(row: Sequence[Any]) -> Members:
    members = dict(zip(_NAMES, row[1:], strict=True))
    members["line"] = bytes(members["line"]).decode("utf-8", "backslashreplace")
    return members


def _find_differing_members(line: Mapping[str, Any], row: Members) -> list[str]:
    """Return the names of the members that differ; members that the archive lacks are ignored."""
    return [name for name in _NAMES if name in line and _read_member(name, line[name]) != row[name]]


def _read_member(name: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    return dt.datetime.fromisoformat(value) if name == "rejected_at" else value


_NAMES: Final = (
    "resource",
    "key",
    "op",
    "code",
    "sqlstate",
    "detail",
    "object",
    "line",
    "rejected_at",
    "slot",
)
_SELECT: Final = """
    SELECT id::text, resource, key, op, code, sqlstate, detail, object, line, rejected_at,
           slot
    FROM forebay.rejections WHERE id = ANY(%s::uuid[])
"""
