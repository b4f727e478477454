"""Rebuild: the same tables from the archive alone, up to now and up to a moment."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import psutil
import pytest

from forebay.codec import encode
from tests.fixtures.archives import id_at
from tests.fixtures.commands import city
from tests.fixtures.operating import Operator, apply_live


def rebuilt(operator: Operator, url: str, *arguments: str) -> Operator:
    """Rebuild another database from the same archive; return its operator."""
    other = replace(operator, database_url=url)
    other.done("rebuild", "--yes", *arguments)
    return other


#: With one, the command's own process reads and folds; with several, each has a process of its own.
PROCESSES = pytest.mark.parametrize("processes", ["1", "3"])


@PROCESSES
def test_a_rebuild_gives_byte_by_byte_the_tables_of_the_live_run(
    operator: Operator, another_database: Callable[[], str], processes: str
) -> None:
    """Rejections are equal, too, although the order of objects and chunks differs."""
    apply_live(operator)
    other = rebuilt(operator, another_database(), "--processes", processes)

    assert other.dump() == operator.dump()
    for query in (
        "SELECT resource, key, version FROM forebay.tombstones ORDER BY 1, 2",
        "SELECT id, code, sqlstate, detail, object FROM forebay.rejections ORDER BY 1",
        "SELECT object, lines, rejected, first_id, last_id FROM forebay.ledger ORDER BY 1",
    ):
        assert other.rows(query) == operator.rows(query) != []
    assert indexes(other) == indexes(operator)
    other.done("verify", "--at", "2026-02-01")


@pytest.mark.parametrize("more", [(), ("--allow-new-rejections",)])
def test_a_rebuilt_rejection_has_the_time_of_the_rejection(
    operator: Operator, another_database: Callable[[], str], more: tuple[str, ...]
) -> None:
    """A rejection that an older release archived has the time of its archive object."""
    apply_live(operator)
    old = city(1, key=1, name="x" * 300)
    line = {
        **dict.fromkeys(("resource", "key", "op", "sqlstate")),
        "id": old.id,
        "code": "old",
        "detail": "",
        "object": "o",
        "line": encode(old).decode(),
    }
    legacy = operator.archive / "rejections/2025/10/17/06/o/1.ndjson"
    legacy.parent.mkdir(parents=True)
    legacy.write_bytes(orjson.dumps(line))
    stored = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC)
    os.utime(legacy, (stored.timestamp(), stored.timestamp()))

    query = "SELECT id::text, rejected_at FROM forebay.rejections"
    other = rebuilt(operator, another_database(), *more)
    expected = {**dict(operator.rows(query)), old.id: stored}
    assert dict(other.rows(query)) == expected


def test_a_large_archive_takes_no_more_open_files_than_a_process_may_have(
    operator: Operator, another_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux's usual limit is 1,024 open files, and a large archive takes 512 files."""
    apply_live(operator)
    monkeypatch.setattr("ops.rebuild.rebuild.INFLATION", 10**9)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = psutil.Process().num_fds()
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 600, before[1]))
    try:
        other = rebuilt(operator, another_database(), "--processes", "1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert other.dump() == operator.dump()


@PROCESSES
def test_the_ledger_of_a_rebuild_counts_every_line(
    operator: Operator, another_database: Callable[[], str], processes: str
) -> None:
    apply_live(operator)
    other = rebuilt(operator, another_database(), "--processes", processes)

    assert other.rows(
        "SELECT count(*) FROM forebay.ledger"
        " WHERE lines <> applied + superseded + duplicates + rejected"
    ) == [(0,)]
    assert other.rows("SELECT sum(applied) FROM forebay.ledger") == other.rows(
        "SELECT (SELECT count(*) FROM cities) + (SELECT count(*) FROM forebay.tombstones)"
    )


@PROCESSES
def test_a_rebuild_to_a_moment_equals_the_tables_of_that_moment(
    operator: Operator, another_database: Callable[[], str], processes: str
) -> None:
    """The live tables are dumped when exactly the commands up to the moment are applied."""
    cut = id_at(1_767_225_600_000 + 360_000, 2**60, create=True)
    apply_live(operator, until=cut)
    snapshot = operator.dump()

    other = rebuilt(operator, another_database(), "--until", cut, "--processes", processes)

    assert other.dump() == snapshot
    assert b"\t" in snapshot
    assert other.rows("SELECT FROM forebay.ledger") == []
    other.done("verify", "--at", cut, "--without-ledger")
    apply_live(operator)
    assert operator.dump() != snapshot


def test_a_rejection_that_the_live_run_did_not_have_stops_it_and_changes_nothing(
    operator: Operator,
) -> None:
    result = operator.run("rebuild", "--yes")

    assert result.code == 3
    assert "--allow-new-rejections" in result.err
    assert operator.rows("SELECT FROM forebay.rejections") == []
    assert operator.rows("SELECT FROM cities LIMIT 1") == []


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b'{"v":1,"id":"half', "an invalid line"),
        (encode(city(1, key=5, name="x" * 300)), "value too long"),
        (encode(city(1, key=5)).replace(b'"cities"', b'"rivers"'), "no resource"),
    ],
    ids=["unreadable", "refused by Postgres", "unfit"],
)
def test_each_kind_of_new_rejection_stops_it(
    operator: Operator, another_database: Callable[[], str], line: bytes, named: str
) -> None:
    apply_live(operator)
    (operator.archive / "commands/2026/01/01/00/z.gz").write_bytes(gzip.compress(line))
    other = replace(operator, database_url=another_database())

    result = other.run("rebuild", "--yes")

    assert result.code == 3, result.out
    assert named in result.err
    assert other.rows("SELECT FROM cities LIMIT 1") == []


@pytest.mark.parametrize("objects", [["bad", "good"], ["good", "bad"], ["bad good"], ["good bad"]])
@pytest.mark.parametrize("body", [{"mayor": "x"}, {"name": "x" * 300}], ids=["unfit", "refused"])
def test_an_inapplicable_losing_command_has_the_same_status_in_a_rebuild(
    operator: Operator,
    another_database: Callable[[], str],
    objects: list[str],
    body: dict[str, Any],
) -> None:
    """The order of delivery decides whether it is rejected; a loser's body is not validated."""
    lines = {"good": encode(city(9, key=900_077)), "bad": encode(city(1, key=900_077, **body))}
    for number, names in enumerate(objects):
        content = b"".join(lines[name] for name in names.split())
        path = operator.archive / f"commands/2026/01/01/00/z{number}.gz"
        path.write_bytes(gzip.compress(content))
    apply_live(operator)
    rejected = operator.rows("SELECT FROM forebay.rejections WHERE key = '900077'")
    assert len(rejected) == int(objects == ["bad", "good"])

    other = rebuilt(operator, another_database())

    assert other.dump() == operator.dump()
    for one in (operator, other):
        one.done("verify", "--at", "2026-02-01")


def test_new_rejections_are_made_where_they_are_allowed(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    other = rebuilt(operator, another_database(), "--allow-new-rejections")
    assert other.rows("SELECT count(*) > 0 FROM forebay.rejections") == [(True,)]

    apply_live(operator)
    assert other.dump() == operator.dump()


def test_a_database_that_holds_rows_is_refused(operator: Operator) -> None:
    apply_live(operator)
    before = operator.dump()

    result = operator.run("rebuild", "--yes")

    assert result.code == 3
    assert "cities" in result.err
    assert operator.dump() == before


def test_a_database_that_is_refused_keeps_its_older_schema(operator: Operator) -> None:
    apply_live(operator)
    operator.rows(
        "DROP TABLE forebay.run_objects; DROP TABLE forebay.runs; "
        "UPDATE forebay.alembic_version SET version_num = 'e73abff84549'"
    )

    result = operator.run("rebuild", "--yes")

    assert result.code == 3
    assert "not empty" in result.err
    assert operator.rows("SELECT to_regclass('forebay.runs')") == [(None,)]


def test_an_object_whose_name_has_tabs_and_line_feeds_has_its_row_in_the_ledger(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    name = "commands/2026/01/01/00/z\ta\nb\r.gz"
    (operator.archive / name).write_bytes(gzip.compress(encode(city(1))))
    apply_live(operator)

    other = rebuilt(operator, another_database())

    assert other.rows("SELECT lines FROM forebay.ledger WHERE object = %s", name) == [(1,)]
    assert other.dump() == operator.dump()


def test_an_empty_database_gets_its_schema(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    apply_live(operator)
    bare = replace(operator, database_url=another_database())
    bare.rows("DROP SCHEMA public CASCADE; DROP SCHEMA forebay CASCADE; CREATE SCHEMA public")

    bare.done("rebuild", "--yes")

    assert bare.dump() == operator.dump()


def test_a_command_of_a_newer_schema_stops_it(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    apply_live(operator)
    newer = encode(city(1)).replace(b'"schema":1', b'"schema":9')
    (operator.archive / "commands/2026/01/01/00/z.gz").write_bytes(gzip.compress(newer))
    other = replace(operator, database_url=another_database())

    result = other.run("rebuild", "--yes")

    assert result.code == 3
    assert "newer release" in result.err


def test_a_rejection_that_depends_on_the_order_is_kept(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    """Two commands have the same unique value, and the later in delivery is rejected.

    In another order, the other command would be.
    """
    unique = "CREATE UNIQUE INDEX only_one ON cities (name) WHERE name LIKE 'version%%'"
    first, second = city(5, key=1, name="version one"), city(4, key=2, name="version one")
    for name, command in (("zb", first), ("za", second)):
        key = f"commands/2026/01/01/00/{name}.gz"
        (operator.archive / key).write_bytes(gzip.compress(encode(command)))
    operator.rows(unique)
    apply_live(operator, objects=["commands/2026/01/01/00/zb.gz"])
    apply_live(operator)
    assert operator.rows("SELECT id::text FROM forebay.rejections WHERE key = '2'") == [
        (second.id,)
    ]
    other = replace(operator, database_url=another_database())
    other.rows(unique)

    other.done("rebuild", "--yes")

    assert other.dump() == operator.dump()
    assert "only_one" in str(indexes(other))


@pytest.mark.parametrize("more", [(), ("--allow-new-rejections",)])
def test_decisions_of_operators_are_restored(
    operator: Operator, another_database: Callable[[], str], more: tuple[str, ...]
) -> None:
    apply_live(operator)
    first, second = decide(operator, "2026-01-01T00:10:00Z", "2026-01-01T00:20:00Z")

    other = rebuilt(operator, another_database(), *more)
    then = rebuilt(operator, another_database(), "--until", "2026-01-01T00:15:00Z", *more)

    query = "SELECT rejection::text, decision, by, reason FROM forebay.decisions ORDER BY reason"
    assert other.rows(query) == [
        (first, "discarded", "operator:anna", "why 0"),
        (second, "discarded", "operator:anna", "why 1"),
    ]
    assert then.rows(query) == other.rows(query)[:1]
    counted = other.done("rejections", "list", "--state", "discarded")
    assert counted["total"] == 2


def test_a_database_that_holds_decisions_is_not_empty(operator: Operator) -> None:
    operator.rows(
        "INSERT INTO forebay.decisions (rejection, decision, by, run, decided_at)"
        " VALUES (gen_random_uuid(), 'discarded', 'x', gen_random_uuid(), now())"
    )

    result = operator.run("rebuild", "--yes")

    assert result.code == 3
    assert "decisions" in result.err


def test_an_object_of_decisions_that_is_none_stops_it_and_changes_nothing(
    operator: Operator, another_database: Callable[[], str]
) -> None:
    apply_live(operator)
    decide(operator, "2026-01-01T00:10:00Z")
    (file,) = (operator.archive / "audit").rglob("*.gz")
    file.write_bytes(b'{"run":')
    other = replace(operator, database_url=another_database())

    result = other.run("rebuild", "--yes")

    assert result.code == 3
    assert file.name in result.err
    assert other.rows("SELECT FROM forebay.rejections") == []


def decide(operator: Operator, *times: str) -> list[str]:
    """Discard a rejection at each of those times, as the archive records it; return their ids."""
    rejected = [
        str(row[0])
        for row in operator.rows(
            "SELECT id::text FROM forebay.rejections ORDER BY id LIMIT %s", len(times)
        )
    ]
    for number, (rejection, time) in enumerate(zip(rejected, times, strict=True)):
        line = {
            "run": "00000000-0000-4000-8000-000000000000",
            "at": time,
            "by": "operator:anna",
            "rejection": rejection,
            "decision": "discarded",
            "command": None,
            "rule": None,
            "reason": f"why {number}",
        }
        file = operator.archive / f"audit/2026/01/01/{number}.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    return rejected


def indexes(operator: Operator) -> list[tuple[object, ...]]:
    """Return every index and constraint of the resource tables."""
    return operator.rows(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
        " UNION ALL SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace ORDER BY 1"
    )
