"""The database of a command: an explicit option wins, and each result names the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from local.postgres.config import SUPERUSER
from ops.context import DATABASE, REPLICA, Context
from ops.errors import UsageError
from tests.fixtures.operating import Operator
from tests.fixtures.postgres import PostgresServer

AT = ("--at", "2026-02-01")
PASSWORD = "hidden-2f6c"


@pytest.fixture
def login(postgres_cluster: PostgresServer) -> Iterator[str]:
    """A superuser with a password that no other word of an output contains."""
    name = f"login_{uuid4().hex}"
    role = sql.Identifier(name)
    with psycopg.connect(postgres_cluster.url(SUPERUSER, "postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(role, PASSWORD))
        yield name
        admin.execute(sql.SQL("DROP ROLE {}").format(role))


def with_replica_in_the_environment(operator: Operator) -> Operator:
    """Return the same operator with variables that also name the database as a replica."""
    variables = {
        "FOREBAY_DATABASE_URL": operator.database_url,
        "FOREBAY_REPLICA_URL": operator.database_url,
        "FOREBAY_ARCHIVE_BUCKET": f"file://{operator.archive}",
    }
    return Operator(operator.archive, operator.database_url, variables)


def test_verify_of_a_given_database_does_not_look_at_the_environments_replica(
    applied: Operator, another_database: Callable[[], str]
) -> None:
    operator = with_replica_in_the_environment(applied)
    operator.done("verify", *AT)

    empty = another_database()
    result = operator.done("verify", *AT, "--database-url", empty, code=5)

    assert result["objects_not_applied"] == result["objects"]
    (named,) = result["databases"]
    assert named["database"] == conninfo_to_dict(empty)["dbname"]


def test_verify_of_a_database_that_does_not_exist_fails(applied: Operator) -> None:
    nowhere = applied.database_url.replace("/test_", "/no_such_database_")
    operator = with_replica_in_the_environment(applied)

    for command in (("verify", *AT), ("history", "cities", "1"), ("rejections", "list")):
        result = operator.run(*command, "--database-url", nowhere)

        assert result.code == 3
        assert "no_such_database_" in result.err
        assert "check --database-url" in result.err
        assert "try again" not in result.err


def test_an_address_or_a_password_that_is_wrong_is_named_without_the_password(
    login: str, applied: Operator
) -> None:
    operator = with_replica_in_the_environment(applied)
    wrong = make_conninfo(applied.database_url, user=login, password=f"not-{PASSWORD}")
    for command in (("verify", *AT), ("replay", "--yes"), ("revert", "--by", "x", "--dry-run")):
        for address, code, text in (
            (f"postgresq://user:{PASSWORD}@host/name", 2, "write postgresql://"),
            (f"{PASSWORD} user=x", 2, "--database-url"),
            (wrong, 3, "check --database-url"),
        ):
            result = operator.run(*command, "--database-url", address)
            assert (result.code, result.out) == (code, ""), result.err
            assert text in result.err
            assert PASSWORD not in result.err


def test_a_database_without_the_schema_is_named_as_such(
    operator: Operator, postgres_cluster: PostgresServer
) -> None:
    admin = postgres_cluster.url(SUPERUSER, "postgres")
    result = operator.run("replay", "--yes", "--database-url", admin)
    assert result.code == 3
    assert "the database is not one of Forebay" in result.err


@pytest.mark.parametrize(
    ("options", "variables", "replica"),
    [
        ({}, {}, None),
        ({}, {"FOREBAY_REPLICA_URL": "variable"}, "variable"),
        ({}, {"FOREBAY_DATABASE_URL": "p", "FOREBAY_REPLICA_URL": "variable"}, "variable"),
        ({DATABASE: "p"}, {"FOREBAY_REPLICA_URL": "variable"}, None),
        ({REPLICA: "option"}, {"FOREBAY_REPLICA_URL": "variable"}, "option"),
        ({DATABASE: "p", REPLICA: "option"}, {"FOREBAY_REPLICA_URL": "v"}, "option"),
    ],
)
def test_a_replica_is_used_unless_its_database_was_given_more_explicitly(
    options: dict[object, str], variables: dict[str, str], replica: str | None
) -> None:
    context = Context(options, environment=variables)  # type: ignore[arg-type]

    assert context.find(REPLICA) == replica


def test_a_variables_database_is_not_paired_with_the_named_environments_replica() -> None:
    context = Context({}, environment={"FOREBAY_DATABASE_URL": "p"})
    context.__dict__["_outputs"] = {"DatabaseUrl": "q", "ReplicaUrl": "r"}
    assert context.find(REPLICA) is None

    context = Context({}, environment={})
    context.__dict__["_outputs"] = {"DatabaseUrl": "q", "ReplicaUrl": "r"}
    assert context.find(REPLICA) == "r"


def test_a_needed_replica_is_requested_in_addition_to_the_given_database() -> None:
    context = Context({DATABASE: "p"}, environment={"FOREBAY_REPLICA_URL": "r"})

    with pytest.raises(UsageError, match="--replica-url"):
        context.get(REPLICA)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("verify", *AT), 0),
        (("history", "cities", "1000000001"), 0),
        (("replay", "--yes"), 0),
        (("replay", "--dry-run"), 0),
        (("rejections", "list"), 0),
        (("rejections", "restore"), 0),
        (("outdate", "cities", "--from", "2030-01-01", "--to", "2030-01-02", "--yes"), 0),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_each_result_names_host_port_and_database_and_no_password(
    login: str, applied: Operator, command: tuple[str, ...], code: int
) -> None:
    known = conninfo_to_dict(applied.database_url)
    secret = make_conninfo(applied.database_url, user=login, password=PASSWORD)
    operator = with_replica_in_the_environment(Operator(applied.archive, secret))
    host, port, name = known["host"], int(str(known["port"])), known["dbname"]

    result = operator.done(*command, code=code)
    text = operator.run(*command)

    assert {(one["host"], one["port"], one["database"]) for one in result["databases"]} == {
        (host, port, name)
    }
    assert f"{host}:{port}, database {name}" in text.out
    assert PASSWORD not in text.out + text.err + str(result)


def test_a_rebuild_names_the_database_that_it_has_filled(operator: Operator) -> None:
    result = operator.done("rebuild", "--allow-new-rejections", "--yes")

    name = conninfo_to_dict(operator.database_url)["dbname"]
    assert [one["database"] for one in result["databases"]] == [name]
