"""Status: backlogs and their ages, for people and for programs, also if a server is down."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from typing import Any

import psycopg
import pytest

from forebay.aws.events import build_event
from forebay.aws.queue import Queue
from forebay.replay.runs import record_failure, start_run
from local.postgres.config import OWNER, SUPERUSER
from local.settings import ROOT
from ops.status import probes
from tests.fixtures.commands import city, command_id
from tests.fixtures.emulator import REGION, Emulator, free_port, wait_until
from tests.fixtures.firehose import FirehoseServer, deploy_stream
from tests.fixtures.operating import Operator
from tests.fixtures.patched import write_waiting
from tests.fixtures.postgres import ReplicatedCluster
from tests.fixtures.site import Site


@pytest.fixture
def firehose(reused_firehose: FirehoseServer) -> FirehoseServer:
    """A server for many tests: the status names this test's streams only."""
    return reused_firehose


@pytest.fixture
def settings(site: Site, emulator: Emulator, firehose: FirehoseServer) -> dict[str, str]:
    """Variables with the addresses of all parts."""
    return {
        "AWS_ENDPOINT_URL": emulator.url,
        "AWS_ENDPOINT_URL_FIREHOSE": firehose.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "FOREBAY_DATABASE_URL": site.database.url,
        "FOREBAY_ARCHIVE_BUCKET": site.bucket,
        "FOREBAY_QUEUE_URL": site.queue.url,
        "FOREBAY_DEAD_LETTER_QUEUE_URL": site.dead_letters.url,
        "FOREBAY_STREAMS": "commands",
    }


def put_now(site: Site, *, apply: bool, **changes: Any) -> None:
    """Store an object that arrived within this hour."""
    now = time.strftime("%Y/%m/%d/%H", time.gmtime())
    key = site.put(city(1, key=1, **changes))
    body = site.s3.get_object(Bucket=site.bucket, Key=key)["Body"].read()
    site.s3.delete_object(Bucket=site.bucket, Key=key)
    key = f"commands/{now}/{key.rpartition('/')[2]}"
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=body)
    if apply:
        site.apply(key)


def test_the_status_shows_waiting_work_and_what_needs_attention(
    site: Site, settings: dict[str, str]
) -> None:
    put_now(site, apply=True, name="x" * 300)  # rejected
    put_now(site, apply=False)
    site.queue.send([build_event(site.bucket, "commands/a")] * 2)
    site.dead_letters.send([build_event(site.bucket, "commands/b")])
    someone = Operator(ROOT, site.database.url, settings)

    result = someone.done("status")

    assert (result["queue"]["visible"], result["dead_letters"]["total"]) == (2, 1)
    assert result["rejections"] == {"open": 1, "last_hour": 1}
    stages = {stage["stage"]: stage for stage in result["stages"]}
    waiting = stages["archived → applied"]
    assert waiting["objects_waiting"] == 1
    assert 0 <= waiting["oldest_waiting_seconds"] < 3_600
    assert waiting["recent_max_seconds"] is not None
    assert result["unanswered"] == {}
    text = " ".join(result["needs_attention"])
    assert "forebay dlq list" in text
    assert "forebay rejections list" in text
    assert someone.run("status", "--check").code == 1
    screen = someone.run("status").out
    assert "archived → applied" in screen
    assert "1 dead letters" in screen


def test_without_problems_nothing_needs_attention(site: Site, settings: dict[str, str]) -> None:
    put_now(site, apply=True)
    result = Operator(ROOT, site.database.url, settings).run("status", "--check")

    assert (result.code, result.err) == (0, "")
    assert "nothing needs attention" in result.out


def test_amendments_do_not_count_in_the_times_of_commands(site: Site) -> None:
    """Their ids have the time of the amended commands."""
    site.put_and_apply(city(1, key=1))
    site.apply(site.put(city(2, key=2), name="amend-of-a-command"))
    assert probes.measure_delivery(site.database.connection, []).objects == 1


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("FOREBAY_DATABASE_URL", "postgresql://nobody@127.0.0.1:{port}/none", "primary"),
        ("FOREBAY_REPLICA_URL", "postgresql://nobody@127.0.0.1:{port}/none", "replica"),
        ("AWS_ENDPOINT_URL_FIREHOSE", "http://127.0.0.1:{port}", "stream"),
        ("FOREBAY_QUEUE_URL", "http://127.0.0.1:1/nobody/none", "queue"),
        ("FOREBAY_ARCHIVE_BUCKET", "no-such-bucket", "archive"),
    ],
)
def test_a_server_that_is_down_is_named_and_the_rest_is_shown(
    site: Site, settings: dict[str, str], variable: str, value: str, named: str
) -> None:
    put_now(site, apply=True)
    broken = {**settings, variable: value.format(port=free_port())}

    result = Operator(ROOT, site.database.url, broken).done("status", code=5)

    assert named in result["unanswered"]
    assert any(text.startswith(f"{named} does not answer") for text in result["needs_attention"])
    rest = {"queue": "queue", "dead_letters": "dead_letters", "primary": "rejections"}
    for server, member in rest.items():
        assert (result[member] is None) == (server in result["unanswered"]), server


def attention(operator: Operator, *arguments: str) -> list[str]:
    """Return the reasons for attention, of which there must be some."""
    result = operator.done("status", "--check", *arguments, code=1)
    needs: list[str] = result["needs_attention"]
    return needs


def test_an_object_that_is_not_applied_for_long_needs_attention(
    site: Site, settings: dict[str, str]
) -> None:
    put_now(site, apply=False)
    operator = Operator(ROOT, site.database.url, settings)

    (text,) = attention(operator, "--max-unapplied-age", "0")

    assert text.startswith("1 objects are not applied, the oldest for ")
    operator.done("status", "--check", "--max-unapplied-age", "3600")


def test_an_upload_that_is_not_claimed_for_long_needs_attention(
    site: Site, settings: dict[str, str], emulator: Emulator
) -> None:
    put_now(site, apply=True)
    bucket = f"files-{uuid.uuid4().hex}"
    emulator.s3.create_bucket(Bucket=bucket)
    operator = Operator(ROOT, site.database.url, settings)
    assert operator.done("status")["uploads"] is None
    operator.environment["FOREBAY_ATTACHMENTS_BUCKET"] = bucket
    assert operator.done("status", "--check")["uploads"] == {"objects": 0, "oldest_seconds": None}

    key = f"uploads/pictures/harbour/image/{command_id(1)}"
    emulator.s3.put_object(Bucket=bucket, Key=key, Body=b"an image")
    (text,) = attention(operator, "--max-unapplied-age", "0")

    assert text.startswith("1 uploads are not claimed, the oldest for ")
    operator.done("status", "--check", "--max-unapplied-age", "3600")


def test_dead_letters_of_replays_and_imports_need_attention(
    site: Site, settings: dict[str, str], emulator: Emulator
) -> None:
    put_now(site, apply=True)
    sqs = emulator.client("sqs")
    for variable in (
        "FOREBAY_REPLAY_DEAD_LETTER_QUEUE_URL",
        "FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL",
    ):
        queue = Queue(sqs, sqs.create_queue(QueueName=f"dead-{uuid.uuid4().hex}")["QueueUrl"])
        queue.send(["{}"])
        settings[variable] = queue.url
    operator = Operator(ROOT, site.database.url, settings)

    replays, imports = attention(operator)

    assert replays.startswith(
        "1 dead letters of replays: `forebay dlq list --dead-letter-queue-url"
    )
    assert imports.startswith("1 dead letters of imports")
    operator.done("status", "--check", "--max-dead-letters", "1")


def test_open_rejections_need_attention_above_their_limit(
    site: Site, settings: dict[str, str]
) -> None:
    put_now(site, apply=True, name="x" * 300)
    operator = Operator(ROOT, site.database.url, settings)

    assert attention(operator) == ["1 open rejections: `forebay rejections list`"]
    operator.done("status", "--check", "--max-rejections", "1")


def test_a_failed_condition_needs_no_attention(site: Site, settings: dict[str, str]) -> None:
    site.put_and_apply(city(1), city(2)._replace(condition={"where": [["population", "lt", 0]]}))
    operator = Operator(ROOT, site.database.url, settings)

    assert operator.done("status")["rejections"] == {"open": 0, "last_hour": 0}
    told = operator.done("rejections", "list", "--state", "unmet")
    assert [row["code"] for row in told["rejections"]] == ["precondition_failed"]
    assert operator.done("rejections", "list")["total"] == 0


def test_a_patch_that_waits_for_long_needs_attention(site: Site, settings: dict[str, str]) -> None:
    put_now(site, apply=True)
    operator = Operator(ROOT, site.database.url, settings)
    assert operator.done("status", "--check")["waiting"] == {
        "commands": 0,
        "oldest": None,
        "resource": None,
        "key": None,
        "oldest_seconds": None,
    }
    write_waiting(site.database, "5", 2, command_id(1))

    (text,) = attention(operator)

    assert text.startswith("2 patches wait for an item, the oldest for ")
    assert "`forebay history cities 5`" in text
    result = operator.done("status", "--check", "--max-waiting-age", "1e10")
    assert (result["waiting"]["commands"], result["waiting"]["oldest"]) == (2, command_id(1))


def test_outdated_rows_need_attention_until_they_are_replayed(
    site: Site, settings: dict[str, str]
) -> None:
    put_now(site, apply=True)
    site.database.connection.execute(
        "UPDATE cities SET _version = ('f' || substr(_version::text, 2))::uuid"
    )
    operator = Operator(ROOT, site.database.url, settings)

    assert attention(operator) == [
        "1 outdated rows (1 of cities): `forebay replay` writes them again"
    ]
    operator.done("status", "--check", "--max-outdated", "1")


def test_a_run_that_does_nothing_for_minutes_needs_attention(
    site: Site, settings: dict[str, str]
) -> None:
    put_now(site, apply=True)
    run = start_run(site.database.connection, source="s3://a", selection={})
    operator = Operator(ROOT, site.database.url, settings)
    operator.done("status", "--check")
    site.database.connection.execute(
        "UPDATE forebay.runs SET updated_at = now() - interval '5 minutes'"
    )

    (text,) = attention(operator)

    assert run.id in text
    assert "5 min" in text
    assert f"forebay replay --resume {run.id}" in text
    operator.done("status", "--check", "--max-silent-run", "3600")
    record_failure(site.database.connection, run.id, "commands/a", "x")
    operator.done("status", "--check")


def test_a_stream_that_delivers_nothing_needs_attention(
    site: Site, settings: dict[str, str], firehose: FirehoseServer, emulator: Emulator
) -> None:
    put_now(site, apply=True)
    hints = {"IntervalInSeconds": 900, "SizeInMBs": 64}
    name = deploy_stream(emulator, BufferingHints=hints).name
    firehose.client().put_record(DeliveryStreamName=name, Record={"Data": b"{}\n"})
    settings["FOREBAY_STREAMS"] = name
    operator = Operator(ROOT, site.database.url, settings)
    result = operator.done("status", "--check")
    assert result["streams"][0]["interval_seconds"] == 900

    (text,) = attention(operator, "--max-undelivered-age", "0")

    assert text.startswith(f"the stream {name} has not delivered for ")


def test_a_replica_that_stands_still_needs_attention(
    replicated_cluster: ReplicatedCluster,
    replicated_database_urls: tuple[str, str],
    site: Site,
    settings: dict[str, str],
) -> None:
    primary, replica = replicated_database_urls
    settings |= {"FOREBAY_DATABASE_URL": primary, "FOREBAY_REPLICA_URL": replica}
    operator = Operator(ROOT, primary, settings)
    with psycopg.connect(replicated_cluster.replica.url(SUPERUSER), autocommit=True) as admin:
        admin.execute("SELECT pg_wal_replay_pause()")
        try:
            operator.rows("CREATE TABLE a ()")
            (text,) = attention(operator, "--max-replica-lag", "0.001")
            assert text.startswith("the replica is ")
        finally:
            admin.execute("SELECT pg_wal_replay_resume()")
    replicated_cluster.wait_for_replica()
    result = operator.done("status", "--check")
    assert result["replica"] == {"bytes_behind": 0, "seconds_behind": 0.0, "streaming": True}
    assert {one["role"] for one in result["databases"]} == {"primary", "replica"}


def test_wal_without_commits_is_not_a_lag(
    replicated_cluster: ReplicatedCluster, replicated_database_urls: tuple[str, str]
) -> None:
    """The last replayed transaction is old, and the primary always a little ahead."""
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(replicated_cluster.primary.url(SUPERUSER)) as connection:
            while not stop.is_set():
                connection.execute("SELECT pg_logical_emit_message(false, 'a', 'b')")

    replicated_cluster.wait_for_replica()
    writer = threading.Thread(target=write)
    writer.start()
    try:
        with (
            psycopg.connect(replicated_cluster.primary.url(OWNER), autocommit=True) as primary,
            psycopg.connect(replicated_cluster.replica.url(OWNER), autocommit=True) as replica,
        ):
            age = "SELECT clock_timestamp() - pg_last_xact_replay_timestamp() > interval '2 s'"
            wait_until(lambda: replica.execute(age).fetchone() == (True,), "no commit for 2 s")
            for _ in range(20):
                replica_lag = probes.measure_replica(replica, lambda: probes.read_position(primary))
                assert replica_lag.seconds_behind < 1
            without = probes.measure_replica(replica, lambda: None)
            assert (without.seconds_behind, without.streaming) == (0, True)
    finally:
        stop.set()
        writer.join()


def test_a_frozen_primary_delays_nothing_and_the_replica_shows_the_rest(
    site: Site, settings: dict[str, str]
) -> None:
    """The kernel of a frozen server still accepts connections, which then get no answer."""
    put_now(site, apply=True, name="x" * 300)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        settings["FOREBAY_REPLICA_URL"] = site.database.url
        port = frozen.getsockname()[1]
        settings["FOREBAY_DATABASE_URL"] = f"postgresql://nobody@127.0.0.1:{port}/none"
        operator = Operator(ROOT, site.database.url, settings)
        started = time.monotonic()
        result = operator.done("status", code=5)
        seconds = time.monotonic() - started

    assert list(result["unanswered"]) == ["primary"]
    assert result["ledger_from"] == "replica"
    assert result["rejections"]["open"] == 1
    assert result["replica"] is not None
    assert seconds < 9, "twice the usual five seconds of a connection are too many"


def test_a_setting_that_is_missing_is_wrong_usage(site: Site, settings: dict[str, str]) -> None:
    del settings["FOREBAY_QUEUE_URL"]
    result = Operator(ROOT, site.database.url, settings).run("status")

    assert result.code == 2
    assert "FOREBAY_QUEUE_URL" in result.err


def test_watch_gives_one_object_a_line_until_ctrl_c(site: Site, settings: dict[str, str]) -> None:
    process = Operator(ROOT, site.database.url, settings).start(
        "status", "--watch", "--every", "0.5", "--json"
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    put_now(site, apply=False)
    while json.loads(process.stdout.readline())["stages"][1]["objects_waiting"] != 1:
        continue
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()

    assert first["stages"][1]["objects_waiting"] == 0
    assert (process.returncode, err) == (0, "")


def test_on_a_terminal_watch_redraws_in_place(site: Site, settings: dict[str, str]) -> None:
    """The alternate screen is entered once, redrawn, and left at the end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "status", "--watch", "--every", "0.5"],
        cwd=ROOT,
        env={**os.environ, **settings, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    shown = bytearray()
    reader = threading.Thread(target=_drain, args=(ours, shown))
    reader.start()
    while shown.count(b"nothing needs attention") < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    reader.join()
    os.close(ours)

    assert (process.returncode, err) == (0, b"")
    assert shown.count(b"\x1b[?1049h") == shown.count(b"\x1b[?1049l") == 1
    assert shown.count(b"\x1b[H") >= 3, "each drawing begins at the top"


def _drain(terminal: int, shown: bytearray) -> None:
    """Read a terminal's output until its last writer has closed it."""
    try:
        while read := os.read(terminal, 65_536):
            shown += read
    except OSError:  # Linux's end of a terminal that its last writer has closed
        return
