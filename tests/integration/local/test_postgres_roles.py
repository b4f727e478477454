"""What the stack's two logins may do, and that the replica really is one."""

from collections.abc import Iterator

import psycopg
import pytest

from local.postgres.config import READER
from tests.fixtures.postgres import ReplicatedCluster


@pytest.fixture
def owner(replicated_database_urls: tuple[str, str]) -> Iterator[psycopg.Connection]:
    with psycopg.connect(replicated_database_urls[0], autocommit=True) as connection:
        yield connection


def reader_url(url: str) -> str:
    return url.replace("forebay:forebay@", f"{READER}:{READER}@")


def test_the_reader_sees_what_the_owner_makes_later_in_any_schema(
    owner: psycopg.Connection,
    replicated_database_urls: tuple[str, str],
    replicated_cluster: ReplicatedCluster,
) -> None:
    owner.execute("CREATE SCHEMA later")
    owner.execute("CREATE TABLE later.things AS SELECT 42 AS answer")
    replicated_cluster.wait_for_replica()

    with psycopg.connect(reader_url(replicated_database_urls[1])) as reader:
        assert reader.execute("SELECT answer FROM later.things").fetchone() == (42,)


def test_the_reader_changes_nothing_on_the_primary(
    owner: psycopg.Connection, replicated_database_urls: tuple[str, str]
) -> None:
    owner.execute("CREATE TABLE public.things (answer int)")

    with (
        psycopg.connect(reader_url(replicated_database_urls[0])) as reader,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        reader.execute("INSERT INTO public.things VALUES (1)")


def test_the_owner_is_no_superuser(owner: psycopg.Connection) -> None:
    """So that what works here works with a managed database, too."""
    assert owner.execute("SHOW is_superuser").fetchone() == ("off",)


def test_the_replica_takes_no_writes(replicated_database_urls: tuple[str, str]) -> None:
    with (
        psycopg.connect(replicated_database_urls[1]) as replica,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        replica.execute("CREATE TABLE public.things (answer int)")


def test_a_read_holds_back_the_replica_only_for_a_bounded_time(
    replicated_database_urls: tuple[str, str],
) -> None:
    with psycopg.connect(replicated_database_urls[1]) as replica:
        assert replica.execute("SHOW max_standby_streaming_delay").fetchone() == ("3s",)
        assert replica.execute("SHOW hot_standby_feedback").fetchone() == ("on",)
