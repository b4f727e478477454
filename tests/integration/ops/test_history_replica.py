"""History with a lagging replica: only the primary can report a command as pending."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from forebay.codec import encode
from local.postgres.config import SUPERUSER
from tests.fixtures.commands import city
from tests.fixtures.emulator import free_port
from tests.fixtures.operating import Operator
from tests.fixtures.postgres import ReplicatedCluster


@pytest.fixture
def operator(tmp_path: Path, replicated_database_urls: tuple[str, str]) -> Operator:
    """An operator with a replica, and with an archive of two commands in an object each."""
    primary, replica = replicated_database_urls
    for number in (1, 2):
        file = tmp_path / f"commands/2025/10/17/06/{number}.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(encode(city(number, key=number))))
    environment = {
        "FOREBAY_DATABASE_URL": primary,
        "FOREBAY_REPLICA_URL": replica,
        "FOREBAY_ARCHIVE_BUCKET": f"file://{tmp_path}",
    }
    return Operator(tmp_path, primary, environment)


@contextmanager
def paused(cluster: ReplicatedCluster) -> Iterator[None]:
    """Pause the replay of the replica."""
    cluster.wait_for_replica()
    with psycopg.connect(cluster.replica.url(SUPERUSER, "postgres"), autocommit=True) as standby:
        standby.execute("SELECT pg_wal_replay_pause()")
        try:
            yield
        finally:
            standby.execute("SELECT pg_wal_replay_resume()")


def outcome(operator: Operator, key: int) -> tuple[str, str]:
    """Return a command's status, and the server that reported it."""
    result = operator.done("history", "cities", str(key))
    (command,) = result["commands"]
    return command["outcome"], result["asked"]["server"]


def test_an_applied_command_is_not_pending_because_the_replica_is_behind(
    operator: Operator, replicated_cluster: ReplicatedCluster
) -> None:
    with paused(replicated_cluster):
        operator.done("replay", "--yes", "--key", "1")
        assert outcome(operator, 1) == ("applied", "primary")
        assert outcome(operator, 2) == ("pending", "primary")
    replicated_cluster.wait_for_replica()
    assert outcome(operator, 1) == ("applied", "replica")


def test_without_the_primary_commands_that_the_replica_lacks_are_unknown(
    operator: Operator, replicated_cluster: ReplicatedCluster
) -> None:
    operator.done("replay", "--yes", "--key", "1")
    replicated_cluster.wait_for_replica()
    address = psycopg.conninfo.conninfo_to_dict(operator.database_url)
    away = psycopg.conninfo.make_conninfo("", **{**address, "port": free_port()})
    operator.environment["FOREBAY_DATABASE_URL"] = away
    assert outcome(operator, 1) == ("applied", "replica")
    assert outcome(operator, 2) == ("unknown", "replica")
    result = operator.run("history", "cities", "2")
    assert result.code == 0
    assert "can't query the primary" in result.err
    assert "statuses from a replica, whose newest transaction" in result.out
    assert "pending" not in result.out

    del operator.environment["FOREBAY_DATABASE_URL"]
    assert outcome(operator, 2) == ("unknown", "replica")
