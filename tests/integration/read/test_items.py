"""Items: their JSON, their version as ETag, and reading after a command."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

import resources
from forebay.command import Command
from forebay.conditional import parse_version
from forebay.errors import NotYetVisibleError
from forebay.ids import IdSource, accepted_ms
from lambdas.read.sql.statement import Query
from local.postgres.config import SUPERUSER
from ops.replay.outdate import outdate
from tests.fixtures.commands import CITY, city, command_id
from tests.fixtures.postgres import ReplicatedCluster
from tests.fixtures.reading import Reader, close, reader_of
from tests.fixtures.tables import Database

CITIES = resources.load()["cities"]
Replicated = tuple[Database, Reader, psycopg.Connection[Any]]


def test_an_item_has_the_put_fields_its_key_and_its_version(
    database: Database, reader: Reader
) -> None:
    database.apply([city(7, key=5)])
    response = reader.get("cities", key="5")
    assert response.status == 200
    assert json.loads(response.body) == {"geonameid": 5, **CITY, "name": "version 7"}
    assert parse_version(response.headers["ETag"]) == command_id(7)


def test_every_type_comes_back_as_json_has_it(database: Database, reader: Reader) -> None:
    key = "0199f0c2-0000-4000-8000-000000000000"
    body = {
        "title": 'quotes " and \\ and \t tabs \n lines',
        "body": "Zürich 東京 😀 \u2028",
        "published_on": "2026-02-28",
        "expires_at": "2026-03-01T12:00:00.123456+02:00",
        "status": "draft",
        "pinned": True,
        "tags": ["a,b", "{c}", 'd"e', "\\N", ""],
    }
    database.apply([Command(command_id(1), "put", "announcements", key, 1, "t", None, body)])
    document = json.loads(reader.get("announcements", key=key).body)
    assert document == {"id": key, **body, "expires_at": "2026-03-01T10:00:00.123456+00:00"}


@pytest.mark.parametrize("shown", ["{}", "W/{}", '"x", {}', "*"])
def test_a_client_that_has_the_item_gets_304(
    database: Database, reader: Reader, shown: str
) -> None:
    database.apply([city(7, key=5)])
    tag = reader.get("cities", key="5").headers["ETag"]
    response = reader.get("cities", key="5", If_None_Match=shown.format(tag))
    assert (response.status, response.body) == (304, "")
    assert response.headers["ETag"] == tag
    for other in ('"other"', f'"{command_id(7)}"'):
        assert reader.get("cities", key="5", If_None_Match=other).status == 200


def test_a_wrong_row_and_the_right_one_of_one_version_have_two_tags(
    database: Database, reader: Reader
) -> None:
    database.apply([city(7, key=5)])
    right = reader.get("cities", key="5")
    database.connection.execute("UPDATE cities SET name = 'wrong'")
    wrong = reader.get("cities", key="5")
    again = reader.get("cities", key="5", If_None_Match=right.headers["ETag"])
    assert (wrong.status, again.status) == (200, 200)
    assert parse_version(wrong.headers["ETag"]) == parse_version(right.headers["ETag"])

    since = dt.datetime.fromtimestamp(accepted_ms(command_id(7)) / 1000, dt.UTC)
    assert outdate(database.connection, CITIES, since, since + dt.timedelta(seconds=1)).rows == 1
    outdated = reader.get("cities", key="5")
    assert (outdated.body, outdated.headers) == (wrong.body, wrong.headers)
    assert reader.get("cities", key="5", Read_After=command_id(7)).status == 200

    database.apply([city(7, key=5)], replay=True)
    mended = reader.get("cities", key="5", If_None_Match=wrong.headers["ETag"])
    assert (mended.status, mended.body, mended.headers) == (200, right.body, right.headers)


def test_two_media_types_of_an_item_have_two_tags(database: Database, reader: Reader) -> None:
    database.apply([city(7, key=5)])
    accepts = ("application/json", "application/vnd.pgrst.object+json")
    answers = [reader.get("cities", key="5", Accept=accept) for accept in accepts]
    assert len({answer.body for answer in answers}) == 1
    assert len({answer.headers["ETag"] for answer in answers}) == 2


@pytest.mark.parametrize("deleted", [False, True])
def test_an_item_that_is_not_there_is_404(
    database: Database, reader: Reader, *, deleted: bool
) -> None:
    if deleted:
        database.apply([city(1, key=5)], source="1")
        database.apply([city(2, "delete", 5)], source="2")
    response = reader.get("cities", key="5")
    assert (response.status, json.loads(response.body)["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "key", ["abc", "05", "0", "' OR 1=1 --", "5;DROP TABLE cities", "%00", "%2535"]
)
def test_a_bad_key_is_400(reader: Reader, key: str) -> None:
    response = reader.get("cities", key=key)
    assert (response.status, json.loads(response.body)["code"]) == (400, "bad_key")


@pytest.mark.parametrize("key", ["%FF", "%C3%28"])
def test_bytes_that_are_not_utf8_are_not_a_key(reader: Reader, key: str) -> None:
    response = reader.get("countries", key=key)
    assert (response.status, json.loads(response.body)["code"]) == (400, "bad_key")
    assert "UTF-8" in json.loads(response.body)["detail"]


def test_reading_after_a_command_that_is_nowhere_yet_raises_so_that_nothing_is_cached(
    database: Database, reader: Reader
) -> None:
    database.apply([city(1, key=5)])
    with pytest.raises(NotYetVisibleError):
        reader.get("cities", key="5", Read_After=command_id(2))
    with pytest.raises(NotYetVisibleError):
        reader.get("cities", key="6", Read_After=command_id(2))


def test_read_after_shows_the_effect_of_a_command_or_its_winner(
    database: Database, reader: Reader
) -> None:
    database.apply([city(1, key=5), city(3, key=6), city(4, "delete", 7)])
    assert '"version 1"' in reader.get("cities", key="5", Read_After=command_id(1)).body
    tag = reader.get("cities", key="5").headers["ETag"]
    assert '"version 1"' in reader.get("cities", key="5", Read_After=tag).body
    assert '"version 3"' in reader.get("cities", key="6", Read_After=command_id(2)).body
    assert reader.get("cities", key="7", Read_After=command_id(4)).status == 404


@pytest.mark.parametrize("value", ["yesterday", "", "0199f0c2-0000-4000-8000-000000000000"])
def test_a_read_after_that_is_not_a_command_is_400(reader: Reader, value: str) -> None:
    response = reader.get("cities", key="5", Read_After=value)
    assert (response.status, json.loads(response.body)["code"]) == (400, "bad_header")


@contextmanager
def closing_after(reader: Reader) -> Iterator[Reader]:
    try:
        yield reader
    finally:
        close(reader)


@contextmanager
def lagging(cluster: ReplicatedCluster) -> Iterator[None]:
    """Pause the replay of the replica, so that it lags."""
    url = cluster.replica.url(SUPERUSER, "postgres")
    with psycopg.connect(url, autocommit=True) as superuser:
        superuser.execute("SELECT pg_wal_replay_pause()")
        try:
            yield
        finally:
            superuser.execute("SELECT pg_wal_replay_resume()")


def test_read_after_reads_the_primary_if_the_replica_is_behind(
    replicated: Replicated, replicated_cluster: ReplicatedCluster
) -> None:
    database, reader, _ = replicated
    recent = city(1, key=5)._replace(id=IdSource().make(create=False))
    with lagging(replicated_cluster):
        database.apply([recent])
        assert reader.get("cities", key="5").status == 404
        assert reader.get("cities", key="5", Read_After=recent.id).status == 200


def test_reading_after_an_old_command_that_is_nowhere_leaves_the_primary_alone(
    database: Database,
) -> None:
    """Ids are free to invent."""
    no_primary = "postgresql://127.0.0.1:1/none"
    statements: list[str] = []
    with closing_after(reader_of(database.url, no_primary, statements)) as reader:
        database.apply([city(1, key=5)])
        statements.clear()
        with pytest.raises(NotYetVisibleError):
            reader.get("cities", key="5", Read_After=command_id(2))
        assert len(statements) == 1, "nor is it waited for"
        assert reader.get("cities", key="5", Read_After=command_id(1)).status == 200
        recent = IdSource().make(create=False)
        with pytest.raises(psycopg.OperationalError):
            reader.get("cities", key="5", Read_After=recent)
        future = IdSource(lambda: (time.time_ns() // 1_000_000) + 660_000).make(create=False)
        assert reader.get("cities", key="5", Read_After=future).status == 400


def test_reads_go_on_after_the_connection_was_lost(database: Database, reader: Reader) -> None:
    database.apply([city(1, key=5)])
    assert reader.get("cities", key="5").status == 200
    database.connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'forebay-read' AND datname = current_database()"
    )
    assert reader.get("cities", key="5").status == 200


def test_the_read_function_cannot_write(reader: Reader) -> None:
    fetch = reader.app._readers["list"].__self__._database.fetch  # type: ignore[attr-defined]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        fetch(Query(sql.SQL("DELETE FROM cities RETURNING 1").format(), {}))
