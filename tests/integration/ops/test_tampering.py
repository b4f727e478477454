"""Verify finds any single change of a table, and reports no difference in an unchanged table."""

from __future__ import annotations

import gzip
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import resources
from forebay.codec import encode
from forebay.command import Command
from forebay.ids import IdSource
from local.settings import ROOT
from tests.fixtures.commands import city, country
from tests.fixtures.emulator import REGION, Emulator
from tests.fixtures.operating import Operator
from tests.fixtures.site import Site

CUT = "019c1680-0000-7000-8000-000000000000"
AT = ("--at", CUT)
SEED = 20_261_129

#: Columns that the archive does not determine: when, and how often, an object was applied. Verify
#: checks only that they are plausible. A rejection's time is compared if the archive has it.
NOTES = {
    ("forebay.ledger", "started_at"),
    ("forebay.ledger", "completed_at"),
    ("forebay.ledger", "replays"),
    *(("forebay.decision_log", name) for name in ("singleton", "database", "pending", "was_owner")),
    ("forebay.decisions", "recorded_at"),
}
TABLES = (
    "forebay.decision_log",
    "forebay.decisions",
    "forebay.ledger",
    "forebay.rejections",
    "forebay.tombstones",
)


def variables(site: Site, emulator: Emulator) -> dict[str, str]:
    """Variables with the addresses of all parts."""
    return {
        "AWS_ENDPOINT_URL": emulator.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "FOREBAY_DATABASE_URL": site.database.url,
        "FOREBAY_ARCHIVE_BUCKET": site.bucket,
        "FOREBAY_STREAMS": "none",
    }


def later(command: Command) -> Command:
    """Move the command's time of acceptance to after the cut."""
    return command._replace(id=command.id.replace("0199f0c2", "01a1f000"))


@pytest.fixture
def live(site: Site, emulator: Emulator, tmp_path: Path) -> Operator:
    """An operator of a database filled by the live run, with commands on both sides of the cut."""
    lines = [encode(city(number, key=number)) for number in range(1, 20)]
    put(site, *lines, b'{"v":1,"id":"half a comm\n', *lines[:2])
    put(site, *(encode(city(number, "delete", key=number)) for number in range(30, 34)))
    put(site, *(encode(city(40 + number, key=number)) for number in range(1, 5)))
    put(site, *(encode(city(50 + number, key=60, name="x" * (300 + number))) for number in (1, 2)))
    put(site, encode(country(60, "AD")), encode(country(61, "AE")))
    after = [city(80, key=7), city(81, key=99), city(82, "delete", key=8), city(83, "delete")]
    put(site, *(encode(later(command)) for command in after))
    put(site, encode(later(city(84, key=61, name="y" * 300))))
    Operator(ROOT, site.database.url, variables(site, emulator)).done(
        "rejections", "discard", "--reason", "too long", "--key", "60", "--yes"
    )
    archive = tmp_path / "archive"
    for key in [*site.keys("")]:
        file = archive / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(site.s3.get_object(Bucket=site.bucket, Key=key)["Body"].read())
    return Operator(archive, site.database.url)


def put(site: Site, *lines: bytes) -> str:
    """Archive an object of that time, and apply it as the consumer does."""
    hour = "2026/11/19/10" if b"01a1f000" in lines[0] else "2026/01/01/00"
    key = f"commands/{hour}/{uuid.uuid4().hex}.gz"
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=gzip.compress(b"".join(lines)))
    site.apply(key)
    return key


def columns(operator: Operator) -> list[tuple[str, str, str]]:
    """Return table, column and type of every column that the archive determines."""
    tables = [*TABLES, *(f"public.{spec.table}" for spec in resources.load().values())]
    rows = operator.rows(
        "SELECT table_schema || '.' || table_name, column_name, udt_name"
        " FROM information_schema.columns"
        " WHERE table_schema || '.' || table_name = ANY(%s) ORDER BY 1, ordinal_position",
        tables,
    )
    return [row for row in rows if (row[0], row[1]) not in NOTES]


def changed(kind: str, chance: random.Random) -> sql.SQL:
    """Build an expression for a value other than `v`, for a column of that type."""
    digits = chance.choice(["0190", "0199f0c3", "01a1f001", "0b", "d123"])
    version = str(uuid.UUID(digits + f"{chance.getrandbits(128):032x}"[len(digits) :]))
    expressions = {
        "text": "CASE left(v, 1) WHEN 'Z' THEN 'Y' ELSE 'Z' END || substr(v, 2)",
        "varchar": "CASE left(v, 1) WHEN 'Z' THEN 'Y' ELSE 'Z' END || substr(v, 2)",
        "bytea": "v || '\\x00'::bytea",
        "bool": "NOT v",
        "uuid": f"'{version}'::uuid",
        "jsonb": """coalesce(v, 'null') || '["tampered"]'""",
        "timestamptz": "v + interval '1 ms'",
        "date": "v + 1",
        "_int4": "v || 1",
        "float8": "v + 1e-9",
    }
    return sql.SQL(expressions.get(kind, "v + 1000"))


ABSENT = {
    "text": "'Z'",
    "varchar": "'Z'",
    "bytea": "''",
    "bool": "true",
    "uuid": "gen_random_uuid()",
    "_int4": "'{1}'",
    "timestamptz": "now()",
    "date": "current_date",
    "jsonb": "'1'",
}


def tamper(operator: Operator, table: str, column: str, kind: str, chance: random.Random) -> int:
    """Change one value of one row; return the number of changed rows (0 in an empty table)."""
    where = f"first_id <= '{CUT}'" if "ledger" in table else "true"
    statement = sql.SQL(
        "UPDATE {table} SET {column} = (SELECT coalesce({value}, {absent})"
        " FROM (VALUES ({column})) AS old (v))"
        " WHERE ctid = (SELECT ctid FROM {table} WHERE {where} ORDER BY md5(ctid::text || {seed})"
        " LIMIT 1)"
    ).format(
        table=sql.Identifier(*table.split(".")),
        column=sql.Identifier(column),
        value=changed(kind, chance),
        absent=sql.SQL(ABSENT.get(kind, "1")),
        where=sql.SQL(where),
        seed=sql.Literal(str(chance.random())),
    )
    with psycopg.connect(operator.database_url, autocommit=True) as connection:
        return connection.execute(statement).rowcount


@pytest.fixture
def restored(live: Operator) -> Callable[[str], None]:
    """Restores a table to its saved state."""
    names = {table for table, _, _ in columns(live)}
    for name in names:
        live.rows(f"CREATE TABLE public.saved_{name.replace('.', '_')} AS TABLE {name}")

    def restore(name: str) -> None:
        live.rows(
            f"WITH gone AS (DELETE FROM {name}) SELECT 1; INSERT INTO {name}"
            f" TABLE public.saved_{name.replace('.', '_')}"
        )

    return restore


def test_any_single_change_of_a_column_is_found(
    live: Operator, restored: Callable[[str], None]
) -> None:
    live.done("verify", *AT)
    chance = random.Random(SEED)
    missed = []
    for table, column, kind in columns(live):
        if not tamper(live, table, column, kind, chance):
            continue
        result = live.run("verify", *AT)
        # Under another name the object of a ledger row is one that the archive lacks.
        if result.code != (5 if (table, column) == ("forebay.ledger", "object") else 1):
            missed.append((table, column, result.code))
        restored(table)
    assert missed == []
    live.done("verify", *AT)


@pytest.mark.parametrize(
    ("table", "version"),
    [
        ("public.cities", "_version"),
        ("public.countries", "_version"),
        ("forebay.tombstones", "version"),
        ("forebay.rejections", "id"),
        ("forebay.ledger", "first_id"),
        ("forebay.decisions", "rejection"),
    ],
)
def test_a_row_of_up_to_the_cut_that_is_removed_is_found(
    live: Operator, table: str, version: str
) -> None:
    """A row of a later command is checked by a later cut only."""
    live.rows(
        f"DELETE FROM {table} WHERE {version} = (SELECT {version} FROM {table}"
        f" WHERE {version} <= '{CUT}' ORDER BY md5({version}::text) LIMIT 1)"
    )

    at = ("--at", "now") if "decisions" in table else AT  # the decisions were made just now
    assert live.run("verify", *at).code == 1


def named(operator: Operator) -> list[tuple[str, str, str]]:
    result = operator.done("verify", *AT, code=1)
    return [(row["table"], row["key"], row["archive"]) for row in result["named"]]


def test_a_changed_row_under_an_invented_newer_version_is_found(live: Operator) -> None:
    live.rows(
        "UPDATE cities SET name = 'x', _version = '01a1f000-0000-7000-8000-0000000000ff'"
        " WHERE geonameid = 2"
    )

    assert named(live) == [("public.cities", "2", "this key has no such command")]


def test_a_row_under_the_version_of_another_keys_newer_command_is_found(live: Operator) -> None:
    live.rows(
        "UPDATE cities SET _version = (SELECT _version FROM cities WHERE geonameid = 99)"
        " WHERE geonameid = 2"
    )

    assert named(live) == [("public.cities", "2", "this key has no such command")]


def test_a_changed_value_of_a_row_that_is_newer_than_the_cut_is_found(live: Operator) -> None:
    live.rows("UPDATE cities SET name = 'x' WHERE geonameid = 99")

    ((table, key, _),) = named(live)
    assert (table, key) == ("public.cities", "99")


def test_a_missing_row_behind_an_invented_newer_tombstone_is_found(live: Operator) -> None:
    live.rows("DELETE FROM cities WHERE geonameid = 9")
    live.rows(
        "INSERT INTO forebay.tombstones VALUES"
        " ('cities', '9', '01a1f000-0000-7000-8000-0000000000fe')"
    )

    assert named(live) == [("forebay.tombstones (cities)", "9", "this key has no such command")]


def test_a_row_of_a_newer_command_that_is_rejected_is_found(live: Operator) -> None:
    ((version,),) = live.rows(
        "SELECT id::text FROM forebay.rejections WHERE id::text LIKE '01a1f000%%'"
    )
    live.rows(
        "INSERT INTO cities SELECT 61, name, country_code, population, latitude, longitude,"
        " timezone, %s, false FROM cities LIMIT 1",
        version,
    )

    ((table, key, _), *_) = named(live)
    assert (table, key) == ("public.cities", "61")


def test_an_invented_rejection_of_after_the_cut_is_found(live: Operator) -> None:
    invented = "01a1f000-0000-7000-8000-0000000000fc"
    live.rows(
        "INSERT INTO forebay.rejections (id, resource, key, op, code, detail, line, object)"
        " VALUES (%s, 'cities', '1', 'put', 'x', 'x', '', 'x')",
        invented,
    )

    assert named(live) == [("forebay.rejections", invented, "absent")]


def test_a_tombstone_of_a_resource_that_is_not_declared_is_found(live: Operator) -> None:
    live.rows(
        "INSERT INTO forebay.tombstones VALUES"
        " ('rivers', '9', '0199f0c2-0000-7000-8000-0000000000fe')"
    )

    assert named(live) == [("forebay.tombstones", "rivers 9", "the resource is not declared")]


@pytest.mark.parametrize(
    "change",
    [
        "applied = applied + 1",
        "applied = applied + 1, superseded = superseded - 1",
        "lags = lags || 1",
        "lags[1] = lags[1] - 1",
        "lags = array_cat(lags, '{1,-1}')",
        "completed_at = started_at - interval '1 s'",
        "completed_at = now() + interval '1 day'",
        "replays = -1",
    ],
)
def test_numbers_of_the_ledger_that_contradict_each_other_are_found(
    live: Operator, change: str
) -> None:
    ((key,),) = live.rows(
        f"UPDATE forebay.ledger SET {change} WHERE object = (SELECT object FROM forebay.ledger"
        " WHERE superseded = 0 AND first_id IS NOT NULL ORDER BY object LIMIT 1) RETURNING object"
    )

    assert [row[:2] for row in named(live)] == [("forebay.ledger", key)]


@pytest.fixture
def traffic(site: Site, live: Operator) -> Iterator[None]:
    """Puts and deletes that are archived and applied continuously."""
    ids, stop = IdSource(), threading.Event()
    chance = random.Random(SEED)

    def write() -> None:
        while not stop.is_set():
            key, deletes = chance.randrange(1, 40), chance.random() < 0.3
            command = city(1, "delete" if deletes else "put", key=key)
            command = command._replace(id=ids.make(create=False))
            name = "x" * 300 if chance.random() < 0.2 else f"at {command.id}"
            if command.body is not None:
                command = command._replace(body={**command.body, "name": name})
            site.put_and_apply(command)

    writer = threading.Thread(target=write)
    writer.start()
    yield
    stop.set()
    writer.join()


@pytest.mark.usefixtures("traffic")
def test_live_traffic_after_the_cut_is_not_a_difference(
    site: Site, live: Operator, emulator: Emulator
) -> None:
    operator = Operator(ROOT, live.database_url, variables(site, emulator))
    for _ in range(6):
        result = operator.run("verify", *AT)
        assert result.code == 0, result.out + result.err
