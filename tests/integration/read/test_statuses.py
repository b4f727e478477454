"""The status of commands over the API: pending, applied, superseded, rejected."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from typing import Any

import pytest

import resources
from forebay.command import Op
from forebay.http import Response
from forebay.ids import IdSource, accepted_ms
from ops.replay.outdate import outdate
from tests.fixtures.commands import city, command_id
from tests.fixtures.reading import Reader, session_of
from tests.fixtures.tables import Database


def body(response: Response) -> dict[str, Any]:
    return dict(json.loads(response.body))


def test_a_pending_command_is_202_with_retry_after(reader: Reader) -> None:
    response = reader.get("cities", key="5", command=command_id(1))
    assert (response.status, body(response)["status"]) == (202, "pending")
    assert response.headers["Location"] == f"/v1/cities/5/commands/{command_id(1)}"
    assert int(response.headers["Retry-After"]) >= 1
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("op", ["put", "create"])
def test_the_command_of_an_outdated_row_is_applied_and_its_status_names_the_id(
    database: Database, reader: Reader, op: Op
) -> None:
    command, older = city(2, op, 5), city(1, key=5)
    database.apply([command])
    since = dt.datetime.fromtimestamp(accepted_ms(command.id) / 1000, dt.UTC)
    cities = resources.load()["cities"]
    assert outdate(database.connection, cities, since, since + dt.timedelta(seconds=1)).rows == 1
    assert body(reader.get("cities", key="5", command=command.id))["status"] == "applied"
    status = body(reader.get("cities", key="5", command=older.id))
    if op == "put":
        assert (status["status"], status["superseded_by"]) == ("superseded", command.id)
    else:
        assert status["status"] == "pending", "a put beats the create that made the row"


def test_each_final_status_is_200(database: Database, reader: Reader) -> None:
    database.apply(
        [
            city(1, key=5),
            city(2, key=5),
            city(3, key=5, name="x" * 300),
            city(4, "create", 6),
            city(5, "create", 6),
            city(6, "delete", 7),
        ]
    )
    created, recreated = command_id(4, create=True), command_id(5, create=True)
    statuses = {
        (key, command): body(reader.get("cities", key=key, command=command))
        for key, command in [
            ("5", command_id(1)),
            ("5", command_id(2)),
            ("5", command_id(3)),
            ("6", created),
            ("6", recreated),
            ("7", command_id(6)),
        ]
    }
    assert [document["status"] for document in statuses.values()] == [
        "superseded",
        "applied",
        "rejected",
        "applied",
        "superseded",
        "applied",
    ]
    assert statuses["5", command_id(1)]["superseded_by"] == command_id(2)
    error = statuses["5", command_id(3)]["error"]
    assert error["code"] == "string_data_right_truncation"
    assert "name" in error["detail"]


OWN_ERROR = """
    CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE 'no city is named so' USING ERRCODE = 'UX001'; END $$;
    CREATE TRIGGER guard BEFORE INSERT ON cities
    FOR EACH ROW WHEN (NEW.name = 'bad') EXECUTE FUNCTION guard()
"""


def test_the_sqlstate_of_a_trigger_s_own_error_is_in_the_status(
    database: Database, reader: Reader
) -> None:
    """Its code says only that it is none of Postgres's own errors."""
    database.connection.execute(OWN_ERROR)
    database.apply([city(1, key=5, name="bad")])
    status = body(reader.get("cities", key="5", command=command_id(1)))
    assert status["error"] == {
        "code": "database_error",
        "sqlstate": "UX001",
        "detail": "no city is named so",
    }


def test_a_rejection_that_postgres_did_not_make_has_no_sqlstate(
    database: Database, reader: Reader
) -> None:
    strange = city(1, key=5)._replace(body={**(city(1, key=5).body or {}), "mayor": "n. n."})
    database.apply([strange])
    status = body(reader.get("cities", key="5", command=strange.id))
    assert (status["error"]["code"], "sqlstate" in status["error"]) == ("unknown_field", False)


def test_waiting_ends_as_soon_as_the_command_is_settled(database: Database, reader: Reader) -> None:
    recent = city(1, key=5)._replace(id=IdSource().make(create=False))
    timer = threading.Timer(0.3, lambda: database.apply([recent]))
    timer.start()
    response = reader.get("cities", key="5", command=recent.id, Prefer="wait=100")
    timer.join()
    assert (response.status, body(response)["status"]) == (200, "applied")
    assert response.headers["Preference-Applied"] == "wait=2"


@pytest.mark.parametrize("prefer", ["wait=1", "respond-async, wait=1", "Wait = 1;foo=bar"])
def test_waiting_ends_with_its_time(reader: Reader, prefer: str) -> None:
    recent = IdSource().make(create=False)
    started = time.monotonic()
    response = reader.get("cities", key="5", command=recent, Prefer=prefer)
    assert time.monotonic() - started >= 1
    assert response.status == 202
    assert response.headers["Preference-Applied"] == "wait=1"


def test_an_id_that_can_be_pending_no_more_is_answered_at_once(reader: Reader) -> None:
    """Ids are free to invent, and a wait costs an instance of the function."""
    started = time.monotonic()
    response = reader.get("cities", key="5", command=command_id(1), Prefer="wait=2")
    assert time.monotonic() - started < 2
    assert (response.status, body(response)["status"]) == (202, "pending")


def test_a_wait_holds_no_connection_while_it_sleeps(
    database: Database, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, sleeping = session_of(reader), []

    def sleep(seconds: float) -> None:
        sleeping.append((seconds, session.is_open))
        time.sleep(seconds)

    statuses = reader.app._readers["status"].__self__  # type: ignore[attr-defined]
    monkeypatch.setattr(statuses._visibility, "_sleep", sleep)
    recent = IdSource().make(create=False)
    assert reader.get("cities", key="5", command=recent, Prefer="wait=2").status == 202
    assert sum(seconds for seconds, _ in sleeping) > 1
    assert sum(seconds for seconds, is_open in sleeping if is_open) < 0.2
    assert reader.get("cities", key="5", command=recent).status == 202


@pytest.mark.parametrize("prefer", ["return=minimal", "waiting=3", "wait-for=it", ""])
def test_another_preference_changes_nothing(reader: Reader, prefer: str) -> None:
    response = reader.get("cities", key="5", command=command_id(1), Prefer=prefer)
    assert response.status == 202
    assert "Preference-Applied" not in response.headers


@pytest.mark.parametrize("prefer", ["wait=soon", "wait=-1", "wait"])
def test_a_wait_that_cannot_be_understood_is_400(reader: Reader, prefer: str) -> None:
    response = reader.get("cities", key="5", command=command_id(1), Prefer=prefer)
    assert (response.status, body(response)["code"]) == (400, "bad_header")


@pytest.mark.parametrize(
    "command", ["x", "0199f0c2-0000-4000-8000-000000000000", "ffffffff-ffff-7fff-bfff-ffffffffffff"]
)
def test_an_id_that_can_be_none_is_400(reader: Reader, command: str) -> None:
    response = reader.get("cities", key="5", command=command)
    assert (response.status, body(response)["code"]) == (400, "bad_command_id")


def test_a_rejection_of_another_key_is_none_of_ours(database: Database, reader: Reader) -> None:
    database.apply([city(3, key=5, name="x" * 300)])
    assert reader.get("cities", key="6", command=command_id(3)).status == 202


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("number", [0, 1, 9])
def test_an_invented_id_reveals_only_whether_and_when_a_key_was_written(
    database: Database, reader: Reader, number: int, *, create: bool
) -> None:
    """Clients with write access may read statuses; docs/security.md explains why."""
    writes = [city(2, key=5, name="secret"), city(3, "delete", 6), city(4, key=7, name="x" * 300)]
    database.apply(writes)
    for key in ("5", "6", "7"):
        response = reader.get("cities", key=key, command=command_id(number, create=create))
        status = body(response)
        assert set(status) <= {"command_id", "resource", "key", "status", "links", "superseded_by"}
        assert status["status"] in {"pending", "superseded"}
        assert status.get("superseded_by") in {None, writes[0].id, writes[1].id}
        assert "secret" not in response.body
        assert "secret" not in str(response.headers)
