"""The migration's first login: the database, its port or the user may appear later."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from forebay.log import Log
from lambdas.migrate.first_login import LoginError, wait_for_login
from local.postgres.config import OWNER, SUPERUSER
from local.postgres.throwaway import make_throwaway_servers
from tests.fixtures.postgres import PostgresServer

_LATE_SECONDS = 1.5
_HOST = "database.abc.eu-west-1.rds.amazonaws.com"


@contextmanager
def later(action: Callable[[], object]) -> Iterator[None]:
    """Do something while the block waits."""
    timer = threading.Timer(_LATE_SECONDS, action)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def read_events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]


@pytest.fixture
def log() -> Log:
    return Log("migrate")


def test_a_server_that_starts_later_is_waited_for(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    with make_throwaway_servers() as servers:
        url = servers.primary.url()
        with later(servers.start_primary):
            wait_for_login(url, log, remaining_seconds=120, patience_seconds=20)

    *failed, succeeded = read_events(capsys)
    assert {event["action"] for event in failed} == {"login_failed"}
    assert [event["attempt"] for event in failed] == list(range(1, len(failed) + 1))
    assert (succeeded["action"], succeeded["attempts"]) == ("login_succeeded", len(failed) + 1)


def test_a_user_that_is_created_later_is_waited_for(
    postgres_cluster: PostgresServer,
    database_url: str,
    log: Log,
    capsys: pytest.CaptureFixture[str],
) -> None:
    user = f"late_{uuid4().hex[:8]}"
    superuser = postgres_cluster.url(SUPERUSER, "postgres")
    url = make_conninfo(database_url, user=user, password="p")
    with psycopg.connect(superuser, autocommit=True) as admin:

        def create_role() -> None:
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'p' IN ROLE forebay").format(
                    sql.Identifier(user)
                )
            )

        try:
            with later(create_role):
                wait_for_login(url, log, remaining_seconds=120, patience_seconds=20)
        finally:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(user)))

    failed = read_events(capsys)[:-1]
    assert failed
    assert all("FATAL" in event["reason"] for event in failed)
    assert all(event["user"] == user for event in failed)


def test_a_wrong_password_fails_in_time_with_the_next_step(
    postgres_cluster: PostgresServer, log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    address = postgres_cluster.url(OWNER, "postgres")
    url = make_conninfo(address, password="not-the-password")

    started = time.monotonic()
    with pytest.raises(LoginError) as caught:
        wait_for_login(url, log, remaining_seconds=120, patience_seconds=2)

    assert time.monotonic() - started < 4
    message = str(caught.value)
    assert str(conninfo_to_dict(address)["host"]) in message
    assert OWNER in message
    assert "check user, password and database" in message
    assert "not-the-password" not in message + capsys.readouterr().out


def test_an_unreachable_server_fails_in_the_time_that_the_function_has(log: Log) -> None:
    """Half of the function's remaining time is left to the migration, whatever the patience is."""
    started = time.monotonic()
    with (
        make_throwaway_servers() as servers,
        pytest.raises(LoginError, match="security group and routes"),
    ):
        wait_for_login(servers.primary.url(), log, remaining_seconds=2, patience_seconds=20)

    assert time.monotonic() - started < 4


def test_an_error_that_does_not_heal_is_raised_at_once(
    postgres_cluster: PostgresServer, log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    address = postgres_cluster.url(OWNER, "postgres")
    url = make_conninfo(address, sslmode="require")

    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        wait_for_login(url, log, remaining_seconds=120)

    assert read_events(capsys) == []


def test_a_login_that_succeeds_writes_no_line(
    database_url: str, log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    wait_for_login(database_url, log, remaining_seconds=120)

    assert read_events(capsys) == []


def test_each_attempt_has_a_token_of_its_own(
    postgres_cluster: PostgresServer, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token is signed with credentials that may be new, and is valid for 15 minutes."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    port = postgres_cluster.port
    url = f"postgresql://forebay_owner@{_HOST}:{port}/postgres"
    signed = []
    connect = psycopg.connect

    def record(address: str, **options: Any) -> psycopg.Connection:
        signed.append(conninfo_to_dict(address)["password"])
        # The name does not resolve here.
        return connect(make_conninfo(address, hostaddr="127.0.0.1", host=_HOST), **options)

    monkeypatch.setattr("lambdas.migrate.first_login.psycopg.connect", record)
    with pytest.raises(LoginError, match="rds-db:connect"):
        wait_for_login(url, log, remaining_seconds=120, patience_seconds=2.5)

    assert len(signed) >= 2
    assert all("X-Amz-Signature" in str(token) for token in signed)
