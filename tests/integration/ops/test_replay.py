"""Replay: complete, selected, killed, paused, throttled, and over live traffic."""

from __future__ import annotations

import datetime as dt
import gzip
import signal
import subprocess
import threading
import time
import uuid

import psycopg
import pytest

import resources
from forebay.apply import Source, apply
from forebay.archive.decisions import build_entry_key, encode_decisions
from forebay.archive.lines import read_chunks
from forebay.codec import encode
from forebay.decisions.rejections import Rejection
from local.postgres.config import SUPERUSER
from ops.archive.store import Folder
from tests.fixtures.archives import id_at
from tests.fixtures.commands import city
from tests.fixtures.operating import SMALL_COMMANDS, Operator, kill_hard
from tests.fixtures.postgres import ReplicatedCluster
from tests.fixtures.proxies import postgres_proxy
from tests.fixtures.tables import followed_log, open_connection

OBJECTS = 12


def test_a_replay_applies_the_whole_archive_and_a_second_one_changes_nothing(
    operator: Operator,
) -> None:
    first = operator.done("replay", "--yes")
    before = operator.dump()
    second = operator.done("replay", "--yes")

    assert first["objects"] == second["objects"] == OBJECTS
    counted = ("applied", "superseded", "duplicates", "rejected")
    assert sum(first[name] for name in counted) == first["commands"] >= SMALL_COMMANDS
    assert second["applied"] == second["rejected"] == 0
    assert operator.dump() == before
    assert b"\t" in before
    operator.done("verify", "--at", "2026-02-01")


def test_a_plan_shows_the_work_and_changes_nothing(operator: Operator) -> None:
    plan = operator.done("replay", "--plan")

    assert plan["objects"] == OBJECTS
    assert plan["bytes"] == sum(path.stat().st_size for path in operator.archive.rglob("*.gz"))
    assert plan["commands"] - plan["unreadable_lines"] == plan["commands_by_resource"]["cities"]
    assert plan["first_accepted"] == "2026-01-01T00:00:00Z"
    assert plan["estimated_seconds"] > 0
    assert plan["schema_versions_without_upcaster"] == {}
    assert operator.rows("SELECT FROM cities LIMIT 1") == []
    assert operator.rows("SELECT FROM forebay.runs") == []


def test_a_plan_names_schema_versions_that_nothing_brings_up_to_date(operator: Operator) -> None:
    newer = encode(city(1)).replace(b'"schema":1', b'"schema":9')
    unknown = encode(city(2)).replace(b'"cities"', b'"rivers"')
    _add(operator, "z", newer + unknown)

    plan = operator.done("replay", "--plan")

    assert plan["schema_versions_without_upcaster"] == {
        "cities version 9": 1,
        "rivers (no such resource)": 1,
    }


def test_a_dry_run_counts_and_changes_nothing(operator: Operator) -> None:
    dry = operator.done("replay", "--dry-run")

    assert dry["applied"] > 0.8 * SMALL_COMMANDS
    assert dry["rejected"] > 0
    for table in ("cities", "forebay.rejections", "forebay.ledger", "forebay.runs"):
        assert operator.rows(f"SELECT FROM {table}") == []
    assert not (operator.archive / "decisions").exists()


def test_a_replay_of_chosen_commands_applies_no_others_and_leaves_the_ledger_alone(
    operator: Operator,
) -> None:
    lines = [
        *(encode(city(number, key=number)) for number in range(1, 4)),
        encode(city(9, "delete", key=3)),
    ]
    # The hour of these ids: the replay finds an id's object by its time.
    _add(operator, "z", b"".join(lines), "2025/10/17/06")

    operator.done("replay", "--yes", "--key", "1", "--key", "3")
    assert {row[0] for row in operator.rows("SELECT geonameid FROM cities")} == {1}
    assert operator.rows("SELECT key FROM forebay.tombstones") == [("3",)]

    file = operator.archive.parent / "ids"
    file.write_text(f"{city(2).id}\n")
    operator.done("replay", "--yes", "--id-file", str(file))
    assert {row[0] for row in operator.rows("SELECT geonameid FROM cities")} == {1, 2}

    assert operator.rows("SELECT FROM forebay.ledger") == []


@pytest.mark.parametrize("mode", ["--yes", "--dry-run", "--plan"])
def test_a_replay_that_selects_no_command_fails(operator: Operator, mode: str) -> None:
    file = operator.archive.parent / "ids"
    file.write_text(f"{city(2).id}\n")
    for conditions in (
        ("--id-file", str(file)),
        ("--from", "2020-01-01", "--to", "2020-01-02"),
        ("--by", "nobody"),
        ("--resource", "countries"),
    ):
        result = operator.done("replay", *conditions, mode, code=5)
        assert result["commands"] == 0, conditions
        assert "nothing was selected" in operator.run("replay", *conditions, mode).err
    assert operator.rows("SELECT FROM cities LIMIT 1") == []


@pytest.mark.parametrize("mode", ["--yes", "--dry-run", "--plan"])
def test_a_replay_of_ids_names_those_that_the_archive_lacks(operator: Operator, mode: str) -> None:
    file = operator.archive.parent / "ids"
    _add(operator, "z", encode(city(1)), "2025/10/17/06")
    known, unknown = city(1).id, city(2).id
    file.write_text(f"{known}\n{unknown}\n")
    result = operator.run("replay", "--id-file", str(file), mode)
    assert result.code == 5, result.err
    assert f"1 of the 2 ids of --id-file are in no object of the archive: {unknown}." in result.err
    result = operator.run("replay", "--id-file", str(file), "--resource", "cities", mode)
    assert result.code == 0, "another condition may leave out a command"


def test_a_time_range_goes_by_the_commands_time_and_not_by_the_objects_name(
    operator: Operator,
) -> None:
    """The name of every object has 00:00 as its time; its commands are from later times, too."""
    operator.done("replay", "--yes", "--from", "2026-01-01T00:05", "--to", "2026-01-01T00:06")

    low, high = id_at(1_767_225_900_000, 0, create=False), id_at(1_767_225_960_000, 0, create=False)
    versions = [row[0] for row in operator.rows("SELECT _version::text FROM cities")]
    assert versions
    assert all(low <= version < high for version in versions)


def test_a_killed_replay_goes_on_where_it_was(operator: Operator) -> None:
    process = operator.start("replay", "--yes", "--rate", "200")
    run = _run_of(process)
    for done in (2, 4, 6):
        _wait_for_objects(operator, run, done)
        kill_hard(process)
        process = operator.start("replay", "--resume", run, "--rate", "200")
        _run_is(operator, run, "running")
    kill_hard(process)
    before = _objects(operator, run)

    result = operator.done("replay", "--resume", run)

    assert result["objects"] == OBJECTS - before < OBJECTS
    assert operator.rows("SELECT state FROM forebay.runs") == [("done",)]
    operator.done("verify", "--at", "2026-02-01")
    assert operator.run("replay", "--resume", run).code == 3


def test_ctrl_c_pauses_and_a_second_one_stops(operator: Operator) -> None:
    process = operator.start("replay", "--yes", "--rate", "200")
    run = _run_of(process)
    _wait_for_objects(operator, run, 1)

    process.send_signal(signal.SIGINT)
    assert _said(process, "paused")
    _wait_until_quiet(operator, run)
    assert process.poll() is None
    process.send_signal(signal.SIGCONT)
    paused_at = _objects(operator, run)
    _wait_for_objects(operator, run, paused_at + 1)
    process.send_signal(signal.SIGINT)
    assert _said(process, "paused")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()

    assert process.returncode == 130
    assert f"forebay replay --resume {run}" in err
    assert operator.done("replay", "--resume", run)["objects_failed"] == 0
    operator.done("verify", "--at", "2026-02-01")


def test_a_rate_is_kept(operator: Operator) -> None:
    started = time.monotonic()
    result = operator.done("replay", "--yes", "--rate", "400", "--workers", "3")
    seconds = time.monotonic() - started

    # The first chunk passes immediately, and may have a second's worth of commands.
    assert seconds > (result["commands"] - 400) / 400 > 1


def test_a_replay_waits_for_a_replica_that_is_behind(
    operator: Operator,
    replicated_cluster: ReplicatedCluster,
    replicated_database_urls: tuple[str, str],
) -> None:
    operator.database_url, replica = replicated_database_urls
    superuser = replicated_cluster.replica.url(SUPERUSER, "postgres")
    lagging = ("--replica-url", replica, "--max-replica-lag", "1", "--rate", "200")
    with psycopg.connect(superuser, autocommit=True) as standby:
        standby.execute("SELECT pg_wal_replay_pause()")
        try:
            process = operator.start("replay", "--yes", *lagging)
            run = _run_of(process)
            assert _said(process, "waiting: the replica is")
            _wait_until_quiet(operator, run)
            assert _objects(operator, run) < OBJECTS
            assert process.poll() is None
        finally:
            standby.execute("SELECT pg_wal_replay_resume()")
    assert _said(process, "continuing")
    _, err = process.communicate()

    assert process.returncode == 0, err
    assert _objects(operator, run) == OBJECTS


def test_a_replay_goes_on_when_a_replica_that_went_away_is_back(
    operator: Operator,
    replicated_cluster: ReplicatedCluster,
    replicated_database_urls: tuple[str, str],
) -> None:
    operator.database_url, replica = replicated_database_urls
    with postgres_proxy(replicated_cluster.replica.port, replicated_cluster.replica.host) as proxy:
        lagging = ("--replica-url", proxy.url(replica), "--max-replica-lag", "5", "--rate", "200")
        process = operator.start("replay", "--yes", *lagging)
        run = _run_of(process)
        _wait_for_objects(operator, run, 1)
        with proxy.refusing():
            assert _said(process, "lag can't be measured")
            _wait_until_quiet(operator, run)
            assert process.poll() is None
        assert _said(process, "continuing")
        _, err = process.communicate()

    assert process.returncode == 0, err
    assert _objects(operator, run) == OBJECTS


def test_a_lag_is_not_watched_where_no_replica_is_known(operator: Operator) -> None:
    result = operator.run("replay", "--yes", "--max-replica-lag", "1")

    assert result.code == 2
    assert "--replica-url" in result.err
    assert operator.rows("SELECT FROM cities LIMIT 1") == []


def test_a_replay_over_live_traffic_loses_none_of_it(operator: Operator) -> None:
    """Live objects change and delete the same keys while the archive is replayed."""
    live = [_add(operator, f"live-{number}", b"".join(_live_lines(number))) for number in range(10)]
    failed: list[BaseException] = []
    writer = threading.Thread(target=_apply_live, args=(operator, live, failed))
    writer.start()
    operator.done("replay", "--yes")
    writer.join()

    assert not failed
    operator.done("verify", "--at", "2026-02-01")
    names = operator.rows("SELECT count(*) FROM cities WHERE name LIKE 'live %%'")
    assert names[0][0] == 10 * 40


def test_a_rejection_in_the_archive_holds_even_if_its_commit_failed(
    operator: Operator,
) -> None:
    """A killed run can leave it so, and a newer command may be applied before the next run."""
    bad = city(1, key=9, name="x" * 300)
    key = _add(operator, "zz-bad", encode(bad))
    rejection = Rejection(
        id=bad.id,
        resource="cities",
        key="9",
        op=bad.op,
        code="string_data_right_truncation",
        sqlstate="22001",
        detail="too long",
        line=encode(bad),
        object=key,
        rejected_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    database = str(uuid.uuid4())
    content = encode_decisions([rejection.to_archive()], [], database)
    assert Folder(operator.archive).create(build_entry_key(1), content)
    _add(operator, "a-newer", encode(city(2, key=9)))
    operator.done("replay", "--yes")

    assert operator.rows("SELECT code FROM forebay.rejections WHERE id = %s", bad.id) == [
        ("string_data_right_truncation",)
    ]
    operator.done("verify", "--at", "2026-02-01")


def test_a_held_command_is_named_and_its_object_is_tried_again(operator: Operator) -> None:
    _add(operator, "z", encode(city(1)).replace(b'"schema":1', b'"schema":9'))

    result = operator.run("replay", "--yes")

    assert result.code == 5
    assert "deploy the newer release" in result.err
    assert operator.rows("SELECT count(*) FROM forebay.run_objects WHERE error IS NOT NULL") == [
        (1,)
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "yesterday"], "is not a time"),
        (["--resource", "rivers"], "the resources are announcements"),
        (["--resume", "00000000-0000-4000-8000-000000000000"], "has no run"),
        (["--source", "file:///nowhere"], "is not a folder"),
        (["--rate", "0"], "--rate"),
    ],
)
def test_wrong_usage_is_a_sentence_and_code_2(
    operator: Operator, arguments: list[str], said: str
) -> None:
    result = operator.run("replay", *arguments)

    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err


def test_without_a_terminal_there_is_no_confirmation(operator: Operator) -> None:
    result = operator.run("replay")

    assert result.code == 2
    assert "--yes" in result.err
    assert operator.rows("SELECT FROM cities LIMIT 1") == []


def _live_lines(number: int) -> list[bytes]:
    """Build puts and deletes of the archive's keys, newer than the archive's commands."""
    lines = []
    for index in range(50):
        key = 1_000_000_000 + number * 50 + index
        deletes = index % 5 == 4
        command = city(1, "delete", key) if deletes else city(1, key=key, name=f"live {key}")
        new_id = id_at(1_767_229_200_000, number * 50 + index, create=False)
        lines.append(encode(command).replace(command.id.encode(), new_id.encode()))
    return lines


def _apply_live(operator: Operator, keys: list[str], failed: list[BaseException]) -> None:
    try:
        with open_connection(operator.database_url) as connection:
            for key in keys:
                apply(
                    connection,
                    read_chunks([(operator.archive / key).read_bytes()]),
                    Source(key),
                    resources=resources.load(),
                    decision_log=followed_log(connection, Folder(operator.archive)),
                )
    except BaseException as exc:  # noqa: BLE001 - the test's own thread asserts it
        failed.append(exc)


def _add(operator: Operator, name: str, content: bytes, hour: str = "2026/01/01/00") -> str:
    key = f"commands/{hour}/{name}.gz"
    (operator.archive / key).parent.mkdir(parents=True, exist_ok=True)
    (operator.archive / key).write_bytes(gzip.compress(content))
    return key


def _run_of(process: subprocess.Popen[str]) -> str:
    """Return the run's id from the first line of the replay's output."""
    assert process.stderr is not None
    words = process.stderr.readline().split()
    assert words[0] == "run", words
    return words[1].rstrip(";")


def _said(process: subprocess.Popen[str], word: str) -> bool:
    """Read the output until a line contains the word; return whether one did."""
    assert process.stderr is not None
    return any(word in line for line in process.stderr)


def _objects(operator: Operator, run: str) -> int:
    rows = operator.rows("SELECT count(*) FROM forebay.run_objects WHERE run::text = %s", run)
    return int(rows[0][0])


def _wait_for_objects(operator: Operator, run: str, count: int) -> None:
    while _objects(operator, run) < count:
        time.sleep(0.05)


def _wait_until_quiet(operator: Operator, run: str) -> None:
    """Wait until no object was completed for longer than a chunk takes."""
    before = -1
    while (now := _objects(operator, run)) != before:
        before = now
        time.sleep(1.5)


def _run_is(operator: Operator, run: str, state: str) -> None:
    while operator.rows("SELECT state FROM forebay.runs WHERE id::text = %s", run) != [(state,)]:
        time.sleep(0.05)
