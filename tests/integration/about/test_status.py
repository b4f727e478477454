"""`GET /status` on a real Postgres and a real S3 API."""

from __future__ import annotations

import datetime as dt
import os
import signal
import time

import psycopg
import pytest
from openapi_schema_validator import OAS31Validator

import resources
from forebay.archive.layout import format_hour
from forebay.aws.archive import Archive
from forebay.command import Command
from forebay.ids import IdSource
from forebay.openapi import describe
from forebay.openapi.schemas import STATUS_REASONS
from lambdas.about.progress import ArchiveProgress
from lambdas.about.sql import OPEN_REJECTIONS
from lambdas.about.verdict import Thresholds, judge
from local.postgres.config import READER, SUPERUSER
from tests.fixtures.about import AboutBench
from tests.fixtures.commands import city
from tests.fixtures.patched import write_waiting
from tests.fixtures.postgres import ReplicatedCluster
from tests.fixtures.tables import Database, open_connection

NOW = dt.datetime.now(dt.UTC)


def hours_ago(hours: int, name: str = "a") -> str:
    return f"{format_hour(NOW - dt.timedelta(hours=hours))}{name}.gz"


def late(seconds: float, key: int) -> Command:
    """Build a command that was accepted the given number of seconds ago."""
    ids = IdSource(now_ms=lambda: round((time.time() - seconds) * 1000))
    return city(1, key=key)._replace(id=ids.make(create=False))


def test_the_status_matches_its_schema(about: AboutBench) -> None:
    about.put(hours_ago(0))
    about.ahead = dt.timedelta(minutes=7)
    document = describe(resources.load())
    schema = {"$ref": "#/components/schemas/Health", "components": document["components"]}
    OAS31Validator(schema).validate(about.status())
    about.url = "postgresql://nobody@127.0.0.1:1/nothing"
    about.session.close()
    OAS31Validator(schema).validate(about.status())


def test_lags_are_those_of_all_commands_of_the_last_minutes(
    about: AboutBench, database: Database
) -> None:
    database.apply([late(600, key) for key in range(98)], source="commands/a.gz")
    database.apply([late(6000, 98), late(6000, 99)], source="commands/b.gz")
    database.connection.execute("ANALYZE")
    applied = about.status()["applied"]
    assert applied["commands"] == 100
    assert applied["p50_seconds"] == pytest.approx(600, rel=0.2)
    assert applied["p99_seconds"] == pytest.approx(6000, rel=0.2)

    database.connection.execute(
        "UPDATE forebay.ledger SET completed_at = now() - interval '6 minutes' "
        "WHERE object = 'commands/b.gz'"
    )
    applied = about.status()["applied"]
    assert applied["commands"] == 98
    assert applied["p99_seconds"] == pytest.approx(600, rel=0.2)

    # An amendment's id has the time of the command that it amends, so it does not count as lag.
    database.apply([late(60_000, 100)], source="commands/2026/01/01/00/amend-a.gz")
    applied = about.status()["applied"]
    assert applied["p99_seconds"] == pytest.approx(600, rel=0.2)


def test_rows_are_estimated_and_unknown_before_the_first_count(
    about: AboutBench, database: Database
) -> None:
    assert about.status()["resources"]["cities"] == {"estimated_rows": None}
    database.apply([city(number, key=number) for number in range(70)])
    database.connection.execute("ANALYZE public.cities")
    estimates = about.status()["resources"]
    assert estimates["cities"] == {"estimated_rows": 70}
    assert estimates["countries"] == {"estimated_rows": None}
    assert set(estimates) == set(resources.load())


def test_a_primary_has_no_lag(about: AboutBench) -> None:
    assert about.status()["database"] == {
        "state": "reachable",
        "role": "primary",
        "streaming": False,
        "replica_lag_seconds": None,
    }


def test_an_idle_replica_is_not_behind_and_one_that_stands_still_is(
    about_replica: AboutBench, replicated_cluster: ReplicatedCluster
) -> None:
    with psycopg.connect(replicated_cluster.replica.url(SUPERUSER), autocommit=True) as admin:
        replicated_cluster.wait_for_replica()
        database = about_replica.status()["database"]
        assert (database["role"], database["streaming"]) == ("replica", True)
        assert database["replica_lag_seconds"] == 0
        admin.execute("SELECT pg_wal_replay_pause()")
        try:
            with psycopg.connect(replicated_cluster.primary.url(SUPERUSER)) as primary:
                primary.execute("SELECT txid_current()")
                primary.commit()
                primary.execute("SELECT pg_sleep(0.2)")
            # The replica must have received the record, which it does not replay while paused.
            behind = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
            while admin.execute(behind).fetchone() != (True,):
                continue
            assert about_replica.status()["database"]["replica_lag_seconds"] > 0
        finally:
            admin.execute("SELECT pg_wal_replay_resume()")
        replicated_cluster.wait_for_replica()
        assert about_replica.status()["database"]["replica_lag_seconds"] == 0


def test_replaying_log_without_a_commit_is_not_a_lag(
    about_replica: AboutBench,
    replicated_cluster: ReplicatedCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        psycopg.connect(replicated_cluster.replica.url(SUPERUSER), autocommit=True) as admin,
        psycopg.connect(replicated_cluster.primary.url(SUPERUSER), autocommit=True) as primary,
    ):
        primary.execute("SELECT txid_current()")
        replicated_cluster.wait_for_replica()
        admin.execute("SELECT pg_wal_replay_pause()")
        try:
            primary.execute("SELECT pg_logical_emit_message(false, 'no', 'commit', true)")
            behind = "SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
            while admin.execute(behind).fetchone() != (True,):
                continue

            def replay_meanwhile(_seconds: float) -> None:
                admin.execute("SELECT pg_wal_replay_resume()")
                replicated_cluster.wait_for_replica()

            monkeypatch.setattr("lambdas.about.database.time.sleep", replay_meanwhile)
            assert about_replica.status()["database"]["replica_lag_seconds"] == 0
        finally:
            admin.execute("SELECT pg_wal_replay_resume()")


def test_the_oldest_object_that_is_not_applied_is_shown(
    about: AboutBench, database: Database
) -> None:
    applied = about.put(hours_ago(3))
    database.apply([city(1)], source=applied)
    missing = about.put(hours_ago(2))
    about.put(hours_ago(0, "b"))
    archive = about.status()["archive"]
    assert (archive["state"], archive["complete"], archive["unapplied_objects"]) == (
        "reachable",
        True,
        2,
    )
    assert archive["oldest_unapplied"]["object"] == missing
    assert archive["oldest_unapplied"]["age_seconds"] >= 0

    database.apply([city(2)], source=missing)
    database.apply([city(3)], source=hours_ago(0, "b"))
    archive = about.status()["archive"]
    assert (archive["unapplied_objects"], archive["oldest_unapplied"]) == (0, None)


def test_an_object_that_was_applied_in_part_is_not_applied(
    about: AboutBench, database: Database
) -> None:
    key = about.put(hours_ago(0))
    database.apply([city(1)], source=key)
    database.connection.execute("UPDATE forebay.ledger SET completed_at = NULL")
    assert about.status()["archive"]["oldest_unapplied"]["object"] == key


def test_applied_objects_are_not_listed_again_within_a_minute_except_the_last_hour(
    about: AboutBench, database: Database
) -> None:
    for hours in (20, 5, 1, 0):
        database.apply([city(1)], source=about.put(hours_ago(hours)))
    about.status()
    passed = about.put(hours_ago(20, "late"))
    assert about.status(after_seconds=20)["archive"]["oldest_unapplied"] is None
    straggler = about.put(hours_ago(0, "0-late"))
    oldest = about.status(after_seconds=20)["archive"]["oldest_unapplied"]
    assert oldest["object"] == straggler != passed


def test_an_object_that_appears_under_an_hour_already_passed_is_found_within_a_minute(
    about: AboutBench, database: Database
) -> None:
    for hours in (20, 0):
        database.apply([city(1)], source=about.put(hours_ago(hours)))
    archive = about.status()["archive"]
    assert (archive["complete"], archive["unapplied_objects"]) == (True, 0)
    late = about.put(hours_ago(10))
    for _ in range(2):
        archive = about.status(after_seconds=61)["archive"]
        assert (archive["complete"], archive["unapplied_objects"]) == (True, 1)
        assert archive["oldest_unapplied"]["object"] == late
    database.apply([city(2)], source=late)
    assert about.status(after_seconds=61)["archive"]["unapplied_objects"] == 0


def test_objects_that_are_not_applied_are_not_skipped(
    about: AboutBench, database: Database
) -> None:
    missing = about.put(hours_ago(20))
    database.apply([city(1)], source=about.put(hours_ago(0)))
    for _ in range(3):
        assert about.status()["archive"]["oldest_unapplied"]["object"] == missing


def test_more_objects_than_one_look_takes_are_looked_at_in_turns(
    about: AboutBench, database: Database
) -> None:
    keys = [about.put(hours_ago(0, name)) for name in "abcdefg"]
    for key in keys[:-1]:
        database.apply([city(1)], source=key)
    progress = ArchiveProgress(Archive(about.s3, about.bucket), about.database, max_objects=3)
    looks = [progress.look() for _ in range(3)]
    assert [look.complete for look in looks] == [False, False, True]
    assert [look.unapplied for look in looks] == [0, 0, 1]
    assert looks[-1].oldest
    assert looks[-1].oldest.key == keys[-1]


def test_objects_older_than_a_day_are_not_looked_at(about: AboutBench) -> None:
    about.put(hours_ago(26))
    assert about.status()["archive"]["unapplied_objects"] == 0


def test_without_its_database_the_status_names_it_and_shows_the_rest(about: AboutBench) -> None:
    url, about.url = about.url, "postgresql://nobody@127.0.0.1:1/nothing"
    about.put(hours_ago(0))
    report = about.status()
    assert report["status"] == "attention"
    assert [reason["code"] for reason in report["reasons"]] == ["database_unreachable"]
    assert report["database"] == {
        "state": "unreachable",
        "role": None,
        "streaming": None,
        "replica_lag_seconds": None,
    }
    assert {report[name] for name in ("applied", "resources", "rejections", "waiting")} == {None}
    assert report["archive"]["state"] == "unknown"
    about.url = url
    assert about.status()["status"] == "ok"


def test_without_the_archive_the_status_names_it_and_shows_the_rest(about: AboutBench) -> None:
    about.s3.delete_bucket(Bucket=about.bucket)
    report = about.status()
    assert report["status"] == "attention"
    assert [reason["code"] for reason in report["reasons"]] == ["archive_unreachable"]
    assert report["archive"]["state"] == "unreachable"
    assert report["database"]["state"] == "reachable"


def test_without_the_queue_the_status_names_it_and_shows_the_rest(about: AboutBench) -> None:
    about.dead_letters.url += "-is-not-there"
    report = about.status()
    assert (report["status"], report["dead_letters"]) == ("attention", None)
    assert [reason["code"] for reason in report["reasons"]] == ["dead_letters_unknown"]


def test_objects_that_wait_too_long_are_late_and_then_a_matter_of_an_operator_s(
    about: AboutBench, database: Database
) -> None:
    key = about.put(hours_ago(0))
    assert about.status()["status"] == "ok"
    about.ahead = dt.timedelta(minutes=7)
    report = about.status()
    assert report["status"] == "late"
    assert about.reasons() == {"objects_not_applied": "late"}
    assert "1 archive objects are not applied" in report["reasons"][0]["detail"]
    about.ahead = dt.timedelta(minutes=16)
    assert about.status()["status"] == "attention"
    database.apply([city(1)], source=key)
    assert about.status()["status"] == "ok"


def test_open_rejections_and_dead_letters_are_a_matter_of_an_operator_s(
    about: AboutBench, database: Database
) -> None:
    bad = city(1)._replace(resource="no-such-resource")
    database.apply([bad], source=about.put(hours_ago(0)))
    about.dead_letters.send(["a message that failed"])
    report = about.status()
    assert (report["status"], report["rejections"], report["dead_letters"]) == (
        "attention", {"open": 1}, {"messages": 1},
    )  # fmt: skip
    assert set(about.reasons()) == {"rejections_open", "dead_letters"}
    database.connection.execute(
        "INSERT INTO forebay.decisions (rejection, decision, by, run, decided_at, recorded_at)"
        " SELECT id, 'discarded', 'anna', gen_random_uuid(), now(), now() FROM forebay.rejections"
    )
    assert about.reasons() == {"dead_letters": "attention"}


def test_a_failed_condition_or_increment_needs_no_operator(
    about: AboutBench, database: Database
) -> None:
    low = {"where": [["population", "lt", 0]]}
    conditional = city(2)._replace(condition=low)
    decrement = city(3)._replace(op="patch", body={"population": {"$increment": -9_000_000}})
    database.apply([city(1), conditional, decrement], source=about.put(hours_ago(0)))

    report = about.status()

    assert (report["status"], report["rejections"]) == ("ok", {"open": 0})
    assert database.rows("SELECT DISTINCT code FROM forebay.rejections ORDER BY 1") == [
        ("increment_failed",),
        ("precondition_failed",),
    ]


def test_failed_conditions_do_not_slow_the_count_of_open_rejections(database: Database) -> None:
    database.connection.execute("SET enable_seqscan = off")
    plan = database.rows("EXPLAIN " + OPEN_REJECTIONS)
    assert any("rejections_not_unmet_idx" in line for (line,) in plan), plan


def test_a_patch_that_waits_too_long_is_a_matter_of_an_operator_s(
    about: AboutBench, database: Database
) -> None:
    assert about.status()["waiting"] == {"commands": 0, "oldest_seconds": None}
    oldest, newer = IdSource().make(create=False), IdSource().make(create=False)
    write_waiting(database, "5", 1, newer)
    write_waiting(database, "6", 2, oldest)
    write_waiting(database, "7", 0, None)
    report = about.status()
    assert (report["status"], report["waiting"]["commands"]) == ("ok", 3)
    assert 0 <= report["waiting"]["oldest_seconds"] < 60
    about.ahead = dt.timedelta(minutes=16)
    report = about.status()
    assert about.reasons() == {"commands_waiting": "attention"}
    assert 960 <= report["waiting"]["oldest_seconds"] < 1020
    assert "3 patches wait for an item" in report["reasons"][0]["detail"]


def test_every_reason_is_described(about: AboutBench) -> None:
    document = {
        "database": {"state": "unreachable", "replica_lag_seconds": 61, "streaming": True},
        "archive": {
            "state": "unreachable",
            "unapplied_objects": 1,
            "oldest_unapplied": {"age_seconds": 61},
        },
        "rejections": {"open": 1},
        "waiting": {"commands": 1, "oldest_seconds": 901.0},
        "dead_letters": {"messages": 1},
    }
    thresholds = Thresholds(late_seconds=60, attention_seconds=900, open_rejections=0)
    codes = {reason.code for reason in judge(document, thresholds)}
    codes |= {reason.code for reason in judge({**document, "dead_letters": None}, thresholds)}
    assert codes == set(STATUS_REASONS)


def test_a_server_that_is_frozen_delays_the_answer_by_a_moment_only(
    about: AboutBench,
) -> None:
    about.status()
    with open_connection(about.url) as other:
        (backend,) = other.execute(
            "SELECT array_agg(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        ).fetchone() or [[]]
    for pid in backend:
        os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        report = about.status()
        assert time.monotonic() - started < 5
        assert report["database"]["state"] == "unreachable"
    finally:
        for pid in backend:
            os.kill(pid, signal.SIGCONT)
    assert about.status()["status"] == "ok"


def test_a_connection_that_was_lost_since_is_replaced(about: AboutBench) -> None:
    about.status()
    with open_connection(about.url) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    assert about.status()["status"] == "ok"


def test_frequent_requests_cause_few_queries(about: AboutBench, database: Database) -> None:
    before = about.status()
    database.apply([city(1)], source=about.put(hours_ago(0)))
    assert about.status(after_seconds=0.5) == before
    assert about.status(after_seconds=1.0) == before
    assert about.status(after_seconds=1.0)["applied"] != before["applied"]


def test_a_database_that_is_down_is_not_queried_at_every_request(about: AboutBench) -> None:
    about.url = "postgresql://nobody@127.0.0.1:1/nothing"
    about.status()
    count = about.asked
    about.status(after_seconds=1)
    assert about.asked == count


def test_the_readers_role_may_read_the_whole_status(
    about_replica: AboutBench,
    replicated_cluster: ReplicatedCluster,
    replicated_database_urls: tuple[str, str],
) -> None:
    """The function logs in as a role that may only read."""
    database = replicated_database_urls[1].rpartition("/")[2]
    about_replica.url = replicated_cluster.replica.url(READER, database)
    report = about_replica.status()
    assert report["database"]["state"] == "reachable"
