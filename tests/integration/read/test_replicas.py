"""Several hosts: a replica is read if there is one, the primary if replication cancels a query."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg
import pytest

from forebay.db.connect import connect
from forebay.http import Response
from local.postgres.config import OWNER, SUPERUSER
from tests.fixtures.commands import city
from tests.fixtures.postgres import PostgresServer, ReplicatedCluster, cloned_database
from tests.fixtures.reading import Reader, close, reader_of
from tests.fixtures.tables import Database, open_connection

APPLICATION = "forebay-read"


@pytest.fixture
def pair(own_replicated_cluster: ReplicatedCluster) -> ReplicatedCluster:
    """A primary and a replica that a test may promote or reconfigure."""
    return own_replicated_cluster


def both(first: PostgresServer, second: PostgresServer, database: str) -> str:
    """Return the URL of two hosts."""
    login, _, rest = first.url(OWNER, database).partition("@")
    _, _, path = rest.partition("/")
    hosts = ",".join(f"{cluster.host}:{cluster.port}" for cluster in (first, second))
    return f"{login}@{hosts}/{path}"


def superuser(cluster: PostgresServer, database: str = "postgres") -> psycopg.Connection[Any]:
    return psycopg.connect(cluster.url(SUPERUSER, database), autocommit=True)


def readers_on(cluster: PostgresServer) -> int:
    """Count the connections of the read function."""
    with superuser(cluster) as admin:
        row = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [APPLICATION]
        ).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def reading(urls: str, primary: str) -> Iterator[Reader]:
    new_reader = reader_of(urls, primary)
    try:
        yield new_reader
    finally:
        close(new_reader)


@pytest.mark.parametrize("primary_first", [True, False])
def test_the_replica_among_two_hosts_is_read(
    replicated_cluster: ReplicatedCluster,
    replicated_database_urls: tuple[str, str],
    *,
    primary_first: bool,
) -> None:
    primary_url, _ = replicated_database_urls
    first, second = replicated_cluster.primary, replicated_cluster.replica
    if not primary_first:
        first, second = second, first
    urls = both(first, second, primary_url.rpartition("/")[2])
    with reading(urls, primary_url) as reader:
        for _ in range(3):
            assert reader.get("cities").status == 200
        assert readers_on(replicated_cluster.replica) == 1
        assert readers_on(replicated_cluster.primary) == 0


def test_host_options_of_a_url_have_precedence(
    replicated_cluster: ReplicatedCluster, replicated_database_urls: tuple[str, str]
) -> None:
    primary_url, _ = replicated_database_urls
    urls = both(
        replicated_cluster.replica, replicated_cluster.primary, primary_url.rpartition("/")[2]
    )
    opened = connect(
        f"{urls}?target_session_attrs=read-write",
        application_name="t",
        statement_timeout_ms=1000,
        prefer_standby=True,
    )
    with closing(opened):
        assert opened.info.port == replicated_cluster.primary.port


def test_a_replica_that_goes_away_leaves_the_primary_to_be_read(pair: ReplicatedCluster) -> None:
    with cloned_database(pair.primary) as name:
        pair.wait_for_replica()
        primary_url = pair.primary.url(OWNER, name)
        with reading(both(pair.replica, pair.primary, name), primary_url) as reader:
            assert reader.get("cities").status == 200
            assert readers_on(pair.replica) == 1
            stop(pair.replica)
            # The broken connection is replaced within the request.
            assert reader.get("cities").status == 200
            assert readers_on(pair.primary) == 1


def stop(cluster: PostgresServer) -> None:
    """Shut the server down in fast mode, as for a restart; return when it refuses connections."""
    with superuser(cluster) as admin, suppress(psycopg.OperationalError):
        # The server signals itself, as it may be in a container.
        admin.execute(
            "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; kill -INT $(head -n 1 postmaster.pid)'"
        )
    while True:
        try:
            superuser(cluster).close()
        except psycopg.OperationalError as exc:
            if "refused" in str(exc) or "closed the connection" in str(exc):
                return


def test_after_a_failover_reads_leave_the_new_primary_for_a_replica(
    pair: ReplicatedCluster,
) -> None:
    """The promoted server keeps its connections, so no error reveals the promotion."""
    with cloned_database(pair.primary) as name:
        pair.wait_for_replica()
        replica_url = pair.replica.url(OWNER, name)
        with reading(replica_url, pair.primary.url(OWNER, name)) as reader:
            assert reader.get("cities").status == 200
            before = pid_of_reader(pair.replica)
            with superuser(pair.replica) as admin:
                assert admin.execute("SELECT pg_promote(true, 30)").fetchone() == (True,)
            # The first answer after the promotion reports it; the next request looks for a standby.
            assert reader.get("cities").status == 200
            assert reader.get("cities").status == 200
            after = pid_of_reader(pair.replica)
            assert after != before
            # No standby is left, so the session stays, and does not search again at each request.
            assert reader.get("cities").status == 200
            assert pid_of_reader(pair.replica) == after


def pid_of_reader(cluster: PostgresServer) -> int:
    with superuser(cluster) as admin:
        rows = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = %s", [APPLICATION]
        ).fetchall()
    assert len(rows) == 1
    return int(rows[0][0])


def test_a_read_in_the_way_of_replication_is_answered_by_the_primary_and_not_tried_there_again(
    pair: ReplicatedCluster,
) -> None:
    with cloned_database(pair.primary) as name, superuser(pair.replica) as replica:
        primary_url = pair.primary.url(OWNER, name)
        with open_connection(primary_url) as connection:
            database = Database(primary_url, connection)
            database.apply([city(n, key=n) for n in range(1, 101)])
            make_slow(name, pair)
            pair.wait_for_replica()
            with reading(pair.replica.url(OWNER, name), primary_url) as reader:
                answers: list[Response] = []
                thread = threading.Thread(target=lambda: answers.append(reader.get("cities")))
                thread.start()
                wait_until_running(replica)
                connection.execute("ALTER TABLE cities_all ADD COLUMN other int")
                thread.join()
                assert [answer.status for answer in answers] == [200]
                assert len(json.loads(answers[0].body)) == 100
                assert conflicts(replica, name) == 1
                assert readers_on(pair.primary) == 1


def make_slow(name: str, pair: ReplicatedCluster) -> None:
    """Make `cities` a view that is slow on the replica and quick on the primary."""
    with superuser(pair.primary, name) as admin:
        admin.execute(
            """
            ALTER TABLE cities RENAME TO cities_all;
            CREATE FUNCTION hold() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
              BEGIN
                IF pg_is_in_recovery() THEN PERFORM pg_sleep(30); END IF;
                RETURN true;
              END $$;
            CREATE VIEW cities AS SELECT * FROM cities_all WHERE hold();
            ALTER VIEW cities OWNER TO forebay;
            """
        )


def wait_until_running(replica: psycopg.Connection[Any]) -> None:
    while True:
        row = replica.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE application_name = %s AND wait_event = 'PgSleep'",
            [APPLICATION],
        ).fetchone()
        if row == (1,):
            return


def conflicts(replica: psycopg.Connection[Any], name: str) -> int:
    row = replica.execute(
        "SELECT conflicts FROM pg_stat_database WHERE datname = %s", [name]
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_too_slow_a_statement_is_cancelled_and_raised(database: Database) -> None:
    quick = reader_of(database.url, database.url, FOREBAY_STATEMENT_TIMEOUT_SECONDS="0.2")
    database.apply([city(1)])
    with psycopg.connect(database.url) as blocker:
        blocker.execute("LOCK TABLE cities IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.QueryCanceled):
            quick.get("cities")
    # The connection is usable again, and so is the function.
    assert quick.get("cities").status == 200
    close(quick)


def test_no_room_for_another_connection_is_raised(database: Database) -> None:
    reader = reader_of(database.url, database.url)
    name = database.url.rpartition("/")[2]
    database.connection.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 1')
    with pytest.raises(psycopg.OperationalError, match="too many connections"):
        reader.get("cities")
    database.connection.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
    assert reader.get("cities").status == 200
    close(reader)
