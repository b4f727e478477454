"""Each runbook is run unchanged, after the incident that it is for has happened."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from forebay.aws.events import build_event
from forebay.aws.queue import Queue
from forebay.codec import encode
from local.credentials import read_secret_key
from local.postgres.config import OWNER, SUPERUSER, locate_primary
from tests.fixtures.emulator import aws_client, wait_until
from tests.fixtures.hand import hand_made
from tests.fixtures.runbooks import Shell
from tests.fixtures.stack import RunningStack, gzipped, new_city

pytestmark = pytest.mark.runbook


@pytest.fixture
def fresh(stack: RunningStack) -> RunningStack:
    """The stack without any content, because a runbook reads the whole archive."""
    stack.empty()
    for key in stack.keys("audit/"):
        stack.s3.delete_object(Bucket=stack.deployed.archive_bucket, Key=key)
    stack.as_superuser("TRUNCATE forebay.decisions")
    return stack


@pytest.fixture
def shell(fresh: RunningStack, tmp_path: Path) -> Shell:
    environment = {"FOREBAY_STATE": str(fresh.settings.state)}
    return Shell(tmp_path, fresh.machine.root, environment)


def dead_letters(stack: RunningStack) -> Queue:
    return Queue(
        aws_client("sqs", stack.settings.emulator_url, key=read_secret_key(stack.settings)),
        stack.deployed.dead_letter_queue_url,
    )


def put_city(stack: RunningStack, **changes: Any) -> tuple[dict[str, Any], str]:
    """Write a city, which must be accepted; return it and the path of its command's status."""
    city = new_city(**changes)
    return city, stack.accepted("PUT", f"/cities/{city['geonameid']}", city)


def moment(seconds: float = 0) -> str:
    """The time in that many seconds, in the format that operators use."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def names(stack: RunningStack) -> dict[int, str]:
    return dict(stack.rows("SELECT geonameid, name FROM public.cities"))


def test_database_down(fresh: RunningStack, shell: Shell) -> None:
    before, status = put_city(fresh)
    assert fresh.wait_for_status(status)["status"] == "applied"

    fresh.as_superuser("ALTER ROLE forebay NOLOGIN")
    fresh.as_superuser(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'forebay'"
    )
    try:
        during, status = put_city(fresh)
        wait_until(lambda: len(fresh.keys("commands/")) == 2, "the write is archived")
        # Without this, five deliveries would have to fail first, which take ten minutes.
        dead = dead_letters(fresh)
        key = max(fresh.keys("commands/"))
        dead.send([build_event(fresh.deployed.archive_bucket, key)])
        printed = shell.run_book(
            "database-down.md",
            before={
                "3. When it answers again": lambda: fresh.as_superuser("ALTER ROLE forebay LOGIN")
            },
        )
    finally:
        fresh.as_superuser("ALTER ROLE forebay LOGIN")
    assert "primary does not answer" in printed
    assert "1 messages moved" in printed
    assert fresh.wait_for_status(status)["status"] == "applied"
    assert set(names(fresh)) == {before["geonameid"], during["geonameid"]}
    assert dead.depth().total == 0


def test_replay_after_a_bad_deploy(fresh: RunningStack, shell: Shell) -> None:
    written = [put_city(fresh) for _ in range(5)]
    for _, status in written:
        assert fresh.wait_for_status(status)["status"] == "applied"
    fresh.settle()
    right = names(fresh)
    versions = fresh.rows("SELECT geonameid, _version FROM public.cities ORDER BY 1")
    fresh.as_superuser("UPDATE public.cities SET name = upper(name), population = 0")
    assert names(fresh) != right

    second = moment()
    wait_until(lambda: moment() > second, "the second in which they were written is over")
    hour = {"SINCE": moment(-3600), "UNTIL": moment()}
    printed = shell.run_book("replay-after-a-bad-deploy.md", {**hour, "RESOURCE": "cities"})
    assert "5 rows of cities are marked" in printed
    assert names(fresh) == right
    assert fresh.rows("SELECT geonameid, _version FROM public.cities ORDER BY 1") == versions


def test_poison_command(fresh: RunningStack, shell: Shell) -> None:
    long = hand_made(new_city(), name="x" * 300)
    other = hand_made(new_city(), population="many")
    good = hand_made(new_city())
    lines = [encode(command) for command in (long, good, other)]
    fresh.wait_until_applied(fresh.archive(f"poison-{uuid.uuid4()}", gzipped(lines)))

    printed = shell.run_book("poison-command.md")
    assert "1 would be sent again" in printed
    assert "1 sent again" in printed
    assert "1 rejections discarded" in printed
    assert names(fresh)[int(long.key)] == "x" * 200
    decisions = dict(fresh.rows("SELECT rejection::text, decision FROM forebay.decisions"))
    assert decisions == {long.id: "retried", other.id: "discarded"}
    assert len(fresh.keys("audit/")) == 2
    assert long.id in printed.split("amends")[-1], "the history says what was amended"


def test_lost_bucket_notification(fresh: RunningStack, shell: Shell) -> None:
    bucket = fresh.deployed.archive_bucket
    configuration = fresh.s3.get_bucket_notification_configuration(Bucket=bucket)
    wanted = {"QueueConfigurations": configuration["QueueConfigurations"]}
    fresh.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    try:
        _, status = put_city(fresh)
        wait_until(lambda: fresh.keys("commands/") != [], "the write is archived")
        assert fresh.client.get(status).status == 202
        printed = shell.run_book(
            "lost-bucket-notification.md",
            before={
                "3. Enqueue them": lambda: fresh.s3.put_bucket_notification_configuration(
                    Bucket=bucket,
                    NotificationConfiguration=wanted,  # type: ignore[arg-type]
                )
            },
        )
    finally:
        fresh.s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration=wanted,  # type: ignore[arg-type]
        )
    assert "S3 sends no events" in printed
    assert fresh.wait_for_status(status)["status"] == "applied"


@pytest.fixture
def new_database(fresh: RunningStack) -> Iterator[str]:
    """The address of an empty database on the stack's primary."""
    name = f"new_{uuid.uuid4().hex}"
    primary = locate_primary(fresh.settings)
    with psycopg.connect(primary.url(SUPERUSER, "postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
        yield primary.url(OWNER, name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def drop(stack: RunningStack, database: str) -> None:
    with psycopg.connect(
        locate_primary(stack.settings).url(SUPERUSER, "postgres"), autocommit=True
    ) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


def fetch(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def copied(stack: RunningStack, folder: Path) -> Path:
    """Copy the archive into a folder, as replication to another region does."""
    for key in stack.keys(""):
        file = folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(stack.read_archived(key))
    return folder


def proves_the_new_database(
    shell: Shell, page: str, heading: str, environment: dict[str, str]
) -> None:
    """Check that the page's proof detects a change in the new database, and names that database."""
    url = environment["NEW_DATABASE_URL"]
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE public.cities SET population = population + 1")
    done = shell.run_again(page, heading, environment)
    assert done.returncode == 1, done.stdout
    assert "with other values" in done.stdout
    assert f"database {conninfo_to_dict(url)['dbname']}" in done.stdout


def test_region_lost(fresh: RunningStack, shell: Shell, new_database: str) -> None:
    for _ in range(3):
        put_city(fresh)
    bad = hand_made(new_city(), name="x" * 300)
    fresh.wait_until_applied(fresh.archive(f"bad-{uuid.uuid4()}", gzipped([encode(bad)])))
    fresh.settle()
    copy = copied(fresh, shell.folder / "copy")
    settings = {"COPY": f"file://{copy}", "NEW_DATABASE_URL": new_database}
    shell.run_book("region-lost.md", settings)
    for query in (
        "SELECT * FROM public.cities ORDER BY 1",
        "SELECT id, code, line FROM forebay.rejections ORDER BY 1",
        "SELECT * FROM forebay.tombstones ORDER BY 1, 2",
    ):
        assert fetch(new_database, query) == fresh.rows(query), query
    proves_the_new_database(shell, "region-lost.md", "3. Prove it", settings)
    shutil.rmtree(copy)


def test_point_in_time_restore(fresh: RunningStack, shell: Shell) -> None:
    city, status = put_city(fresh, name="as it was")
    assert fresh.wait_for_status(status)["status"] == "applied"
    key = city["geonameid"]
    snapshot = fresh.rows("SELECT * FROM public.cities ORDER BY 1")
    # A moment has whole seconds: the write must be before that second, the delete after it.
    written = moment()
    wait_until(lambda: moment() > written, "the second in which it was written is over")
    then = moment()
    wait_until(lambda: moment() > then, "the second of the moment is over")
    deleted = fresh.accepted("DELETE", f"/cities/{key}")
    assert fresh.wait_for_status(deleted)["status"] == "applied"
    put_city(fresh)
    fresh.settle()

    settings = {
        "RESOURCE": "cities",
        "KEY": str(key),
        "MOMENT": then,
        "PORT": str(fresh.settings.ports.base),
    }
    printed = shell.run_book("point-in-time-restore.md", settings)
    assert "as it was" in printed
    url = shell.get_value("NEW_DATABASE_URL")
    try:
        assert fetch(url, "SELECT * FROM public.cities ORDER BY 1") == snapshot
        assert key not in names(fresh), "the live tables are not touched"
        proves_the_new_database(
            shell,
            "point-in-time-restore.md",
            "Everything, in a second database",
            {**settings, "NEW_DATABASE_URL": url},
        )
    finally:
        drop(fresh, str(conninfo_to_dict(url)["dbname"]))
