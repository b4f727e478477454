"""Runs: the progress of replays, stored in the database that they change.

A run records each completed object, so an interrupted run resumes at the remaining objects. If an
object was applied but not recorded, it is applied again, without a change.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from forebay.apply.results import Counts, Outcome
from forebay.db.connect import Connection

State = Literal["running", "paused", "stopped", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The recorded state of a replay."""

    id: str
    #: The archive's URL from the operator's command.
    source: str
    #: The result of `Selection.to_json`.
    selection: dict[str, Any]
    via_queue: bool
    state: State
    #: The number of objects, or None while it is unknown. In a run by the queue: the number of
    #: sent objects, or None while they are being sent.
    objects: int | None
    #: By the database's clock. The run excludes objects that were stored later.
    started_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a run."""

    objects: int
    failed: int
    lines: int
    counts: Counts


def start_run(
    connection: Connection, *, source: str, selection: dict[str, Any], via_queue: bool = False
) -> Run:
    """Insert and commit a new run; return it."""
    run_id = str(uuid.uuid4())
    row = connection.execute(
        "INSERT INTO forebay.runs (id, source, selection, via_queue, state)"
        " VALUES (%s, %s, %s, %s, 'running') RETURNING started_at",
        [run_id, source, orjson.dumps(selection).decode(), via_queue],
    ).fetchone()
    assert row is not None  # noqa: S101 - an INSERT without a condition returns a row
    return Run(
        id=run_id,
        source=source,
        selection=selection,
        via_queue=via_queue,
        state="running",
        objects=None,
        started_at=row[0],
    )


def find_run(connection: Connection, run_id: str) -> Run | None:
    """Return the run with this id, if it exists."""
    row = connection.execute(
        "SELECT id::text, source, selection, via_queue, state, objects, started_at"
        " FROM forebay.runs WHERE id::text = %s",
        [run_id],
    ).fetchone()
    if row is None:
        return None
    return Run(
        id=row[0],
        source=row[1],
        selection=row[2],
        via_queue=row[3],
        state=row[4],
        objects=row[5],
        started_at=row[6],
    )


def mark(connection: Connection, run_id: str, state: State, *, objects: int | None = None) -> None:
    """Record a run's state, and its number of objects if given."""
    connection.execute(
        "UPDATE forebay.runs SET state = %s, objects = coalesce(%s, objects),"
        " updated_at = clock_timestamp() WHERE id = %s::uuid",
        [state, objects, run_id],
    )


def begin_sending(connection: Connection, run_id: str) -> None:
    """Record that a run's objects are being sent to the queue; until the end it can't be done."""
    connection.execute(
        "UPDATE forebay.runs SET state = 'running', objects = NULL,"
        " updated_at = clock_timestamp() WHERE id = %s::uuid",
        [run_id],
    )


def end_sending(connection: Connection, run_id: str, objects: int) -> None:
    """Record the total number of a run's objects after all are sent, in one or several passes."""
    mark(connection, run_id, "running", objects=objects)
    _finish_run(connection, run_id)


def record_object(connection: Connection, run_id: str, key: str, outcome: Outcome) -> None:
    """Record a completed object; a repeated call has no effect.

    The last object of a run by the queue marks the run as done, because no process may follow it.
    """
    connection.execute(_NOTE, [run_id, key, outcome.lines, *outcome.counts, None])
    # A separate statement after the commit: if several consumers record objects concurrently, the
    # last to commit then sees all of them.
    _finish_run(connection, run_id)


def record_failure(connection: Connection, run_id: str, key: str, error: str) -> None:
    """Record the reason why an object could not be applied; a resumed run retries it."""
    connection.execute(_NOTE, [run_id, key, 0, 0, 0, 0, 0, 0, error[:2000].replace("\x00", "")])


def select_done(connection: Connection, run_id: str, keys: Sequence[str]) -> set[str]:
    """Return the keys among `keys` that the run has completed."""
    rows = connection.execute(
        "SELECT object FROM forebay.run_objects"
        " WHERE run = %s::uuid AND object = ANY(%s) AND error IS NULL",
        [run_id, list(keys)],
    ).fetchall()
    return {row[0] for row in rows}


def progress(connection: Connection, run_id: str) -> Progress:
    """Return the progress of a run."""
    row = connection.execute(_PROGRESS, [run_id]).fetchone()
    assert row is not None  # noqa: S101 - an aggregate always returns a row
    objects, failed, lines, *counts = (int(value) for value in row)
    return Progress(objects=objects, failed=failed, lines=lines, counts=Counts(*counts))


def failures(connection: Connection, run_id: str, *, limit: int) -> list[tuple[str, str]]:
    """Return objects that could not be applied, with the reasons, up to a limit."""
    rows = connection.execute(
        "SELECT object, error FROM forebay.run_objects"
        " WHERE run = %s::uuid AND error IS NOT NULL ORDER BY object LIMIT %s",
        [run_id, limit],
    ).fetchall()
    return [(row[0], row[1]) for row in rows]


def _finish_run(connection: Connection, run_id: str) -> None:
    """Mark a run by the queue as done if all sent objects are completed."""
    connection.execute(_FINISH, {"run": run_id})


_NOTE = """
    INSERT INTO forebay.run_objects AS o
      (run, object, lines, applied, superseded, duplicates, rejected, skipped, error)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (run, object) DO UPDATE SET
      lines = excluded.lines, applied = excluded.applied, superseded = excluded.superseded,
      duplicates = excluded.duplicates, rejected = excluded.rejected, skipped = excluded.skipped,
      error = excluded.error,
      done_at = clock_timestamp()
    WHERE o.error IS NOT NULL
"""

_FINISH = """
    UPDATE forebay.runs SET state = 'done', updated_at = clock_timestamp()
    WHERE id = %(run)s::uuid AND via_queue AND state <> 'done'
      AND objects <= (SELECT count(*) FROM forebay.run_objects
                      WHERE run = %(run)s::uuid AND error IS NULL)
"""

_PROGRESS = """
    SELECT count(*) FILTER (WHERE error IS NULL), count(*) FILTER (WHERE error IS NOT NULL),
           coalesce(sum(lines), 0), coalesce(sum(applied), 0), coalesce(sum(superseded), 0),
           coalesce(sum(duplicates), 0), coalesce(sum(rejected), 0),
           coalesce(sum(skipped), 0)
    FROM forebay.run_objects WHERE run = %s::uuid
"""
