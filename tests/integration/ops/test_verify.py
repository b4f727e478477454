"""Verify: it finds every corruption, and reports no false difference."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from forebay.codec import encode
from forebay.ids import mark_outdated
from tests.fixtures.commands import city, command_id
from tests.fixtures.operating import Operator

AT = ("--at", "2026-02-01")


def drift(operator: Operator, *arguments: str) -> list[dict[str, Any]]:
    """Run verify, which must exit with code 1; return the differences that it names."""
    result = operator.done("verify", *AT, *arguments, code=1)
    assert result["agrees"] is False
    named: list[dict[str, Any]] = result["named"]
    assert result["differences"] >= len(named) > 0
    return named


def test_an_untouched_database_agrees(applied: Operator) -> None:
    result = applied.done("verify", *AT)

    assert (result["agrees"], result["differences"], result["not_applied"]) == (True, 0, [])
    for table in result["tables"]:
        assert table["rows_archive"] == table["rows_database"]
        assert table.get("digest_archive") == table.get("digest_database")


def one_city(operator: Operator) -> tuple[int, str]:
    """Return key and version of one city."""
    ((key, version),) = operator.rows(
        "SELECT geonameid, _version::text FROM cities ORDER BY geonameid OFFSET 7 LIMIT 1"
    )
    return int(key), str(version)


def test_a_changed_value_is_found(applied: Operator) -> None:
    key, version = one_city(applied)
    applied.rows("UPDATE cities SET latitude = latitude + 1e-9 WHERE geonameid = %s", key)

    assert drift(applied) == [
        {
            "table": "public.cities",
            "key": str(key),
            "archive": version,
            "database": f"{version} with other values",
        }
    ]


def test_a_changed_version_is_found(applied: Operator) -> None:
    key, version = one_city(applied)
    older = "0190" + version[4:]
    applied.rows("UPDATE cities SET _version = %s WHERE geonameid = %s", older, key)

    assert drift(applied) == [
        {"table": "public.cities", "key": str(key), "archive": version, "database": older}
    ]


def test_an_outdated_row_is_drift_until_a_replay_has_written_it_again(applied: Operator) -> None:
    key, version = one_city(applied)
    when = ("--from", "2026-01-01", "--to", "2026-01-02")
    applied.done("outdate", "cities", *when, "--key", str(key), "--yes")

    result = applied.done("verify", *AT, code=1)

    assert result["named"] == [
        {
            "table": "public.cities",
            "key": str(key),
            "archive": version,
            "database": "outdated, `forebay replay` writes it again",
        }
    ]
    assert (result["differences"], result["outdated"]) == (1, 1)
    assert "forebay replay" in applied.run("verify", *AT).out
    applied.done("replay", *when, "--key", str(key), "--yes")
    applied.done("verify", *AT)


@pytest.mark.parametrize(
    "version",
    [
        mark_outdated(command_id(1).replace("0199f0c2", "01a1f000")),
        # The mark of earlier releases.
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ],
)
def test_an_outdated_row_of_a_command_after_the_cut_is_drift_too(
    applied: Operator, version: str
) -> None:
    add(applied, encode(city(1, key=5)).replace(b"0199f0c2", b"01a1f000"))
    applied.done("replay", "--yes")
    applied.done("verify", *AT)
    applied.rows("UPDATE cities SET _version = %s WHERE geonameid = 5", version)

    (differences,) = drift(applied)

    assert (differences["key"], differences["archive"]) == ("5", "absent")
    assert differences["database"].startswith("outdated")


def test_a_missing_row_is_found(applied: Operator) -> None:
    key, version = one_city(applied)
    applied.rows("DELETE FROM cities WHERE geonameid = %s", key)

    assert drift(applied) == [
        {"table": "public.cities", "key": str(key), "archive": version, "database": "absent"}
    ]


def test_a_row_without_a_command_is_found(applied: Operator) -> None:
    applied.rows(
        "INSERT INTO cities SELECT 5, name, country_code, population, latitude, longitude,"
        " timezone, _version, _by_create FROM cities LIMIT 1"
    )

    (differences,) = drift(applied)

    assert (differences["table"], differences["key"], differences["archive"]) == (
        "public.cities",
        "5",
        "absent",
    )


def test_a_missing_tombstone_is_found(applied: Operator) -> None:
    ((key, version),) = applied.rows(
        "DELETE FROM forebay.tombstones WHERE key = (SELECT min(key) FROM forebay.tombstones)"
        " RETURNING key, version::text"
    )

    (differences,) = drift(applied)

    assert differences == {
        "table": "forebay.tombstones (cities)",
        "key": key,
        "archive": version,
        "database": "absent",
    }


def test_a_changed_version_of_a_tombstone_is_found(applied: Operator) -> None:
    """A wrong version would let a later replay restore the row, or keep it away."""
    ((key, version),) = applied.rows("SELECT key, version::text FROM forebay.tombstones LIMIT 1")
    older = "0190" + version[4:]
    applied.rows("UPDATE forebay.tombstones SET version = %s WHERE key = %s", older, key)

    assert drift(applied) == [
        {
            "table": "forebay.tombstones (cities)",
            "key": key,
            "archive": version,
            "database": older,
        }
    ]


def test_a_tombstone_without_a_command_is_found(applied: Operator) -> None:
    applied.rows("INSERT INTO forebay.tombstones VALUES ('cities', '6', %s)", "0190" + "0" * 28)

    (differences,) = drift(applied)

    assert (differences["table"], differences["key"]) == ("forebay.tombstones (cities)", "6")


@pytest.mark.parametrize("order", ["min", "max"])
def test_a_missing_ledger_row_is_found(applied: Operator, order: str) -> None:
    ((key,),) = applied.rows(
        f"DELETE FROM forebay.ledger WHERE object = (SELECT {order}(object) FROM forebay.ledger)"
        " RETURNING object"
    )

    (differences,) = drift(applied)

    assert (differences["table"], differences["key"], differences["database"]) == (
        "forebay.ledger",
        key,
        "no row",
    )


def test_an_object_that_an_earlier_release_has_held_is_not_applied_yet(applied: Operator) -> None:
    """That release has applied a part of the object; the ledger row comes with the rest."""
    ((key,),) = applied.rows(
        "DELETE FROM forebay.ledger WHERE object = (SELECT min(object) FROM forebay.ledger)"
        " RETURNING object"
    )
    applied.rows(
        "INSERT INTO forebay.failures (object, error) VALUES (%s, 'HeldError: a newer release')",
        key,
    )
    result = applied.done("verify", code=5)
    assert (result["not_applied"], result["differences"]) == ([key], 0)


def test_an_object_that_waits_for_its_decisions_is_not_applied_yet(applied: Operator) -> None:
    """The first of its transactions has changed the tables, and the second completes its row."""
    ((key,),) = applied.rows(
        "UPDATE forebay.ledger SET lines = 0, applied = 0, superseded = 0, duplicates = 0,"
        " rejected = 0, skipped = 0, completed_at = NULL, first_id = NULL, last_id = NULL"
        " WHERE object = (SELECT min(object) FROM forebay.ledger) RETURNING object"
    )
    result = applied.done("verify", code=5)
    assert (result["not_applied"], result["differences"]) == ([key], 0)


def test_a_wrong_ledger_row_is_found(applied: Operator) -> None:
    ((key,),) = applied.rows(
        "UPDATE forebay.ledger SET lines = lines - 1"
        " WHERE object = (SELECT min(object) FROM forebay.ledger) RETURNING object"
    )

    (differences,) = drift(applied)

    assert (differences["table"], differences["key"]) == ("forebay.ledger", key)


def test_an_archive_without_an_object_of_the_ledger_is_incomplete(applied: Operator) -> None:
    applied.rows(
        "INSERT INTO forebay.ledger (object, lines, applied, superseded, duplicates, rejected,"
        " completed_at) VALUES ('commands/gone.gz', 1, 1, 0, 0, 0, now())"
    )

    result = applied.done("verify", *AT, code=5)

    assert result["missing_in_archive"] == ["commands/gone.gz"]
    assert (result["differences"], result["agrees"]) == (0, False)


def test_a_missing_rejection_is_found_and_one_too_many(applied: Operator) -> None:
    ((gone,),) = applied.rows(
        "DELETE FROM forebay.rejections WHERE id = (SELECT id FROM forebay.rejections LIMIT 1)"
        " RETURNING id::text"
    )
    _, version = one_city(applied)
    applied.rows(
        "INSERT INTO forebay.rejections (id, resource, key, code, detail, line, object)"
        " VALUES (%s, 'cities', '1', 'x', 'x', '', 'x')",
        version,
    )

    differences = drift(applied)

    assert {(row["key"], row["archive"], row["database"]) for row in differences} == {
        (gone, "rejected", "absent"),
        (version, "absent", "rejected"),
    }


def test_many_differences_are_all_counted_and_some_named(applied: Operator) -> None:
    ((removed,),) = applied.rows(
        "WITH gone AS (DELETE FROM cities WHERE geonameid %% 3 = 0 RETURNING 1)"
        " SELECT count(*) FROM gone"
    )

    result = applied.done("verify", *AT, "--show", "3", code=1)

    assert result["differences"] == removed > 300
    assert len(result["named"]) == 3


def test_pending_commands_are_named_and_are_not_drift(applied: Operator) -> None:
    key = add(applied, encode(city(1, key=5)) + encode(city(2, "delete", key=6)))

    result = applied.done("verify", *AT, code=5)

    assert result["agrees"] is True
    assert result["not_applied"] == [key]


def test_a_partly_applied_object_is_not_drift(applied: Operator) -> None:
    """The ledger has the number of applied lines: these are expected, the others are not."""
    lines = [encode(city(number, key=number)) for number in range(1, 5)]
    add(applied, b"".join(lines))
    first = add(applied, b"".join(lines[:2]), name="first")
    applied.done("replay", "--yes", "--key", "1", "--key", "2")
    (applied.archive / first).unlink()
    applied.rows(
        "INSERT INTO forebay.ledger (object, lines, applied, superseded, duplicates, rejected)"
        " VALUES ('commands/2026/01/01/00/z.gz', 2, 2, 0, 0, 0)"
    )

    assert applied.done("verify", *AT, code=5)["agrees"] is True
    applied.rows("DELETE FROM cities WHERE geonameid = 2")
    assert [row["key"] for row in drift(applied)] == ["2"]


def test_commands_after_the_cut_are_left_out_on_both_sides(applied: Operator) -> None:
    """New, changed, deleted and restored rows, all of them after the cut."""
    ((changed,), (deleted,)) = applied.rows("SELECT geonameid FROM cities LIMIT 2")
    ((buried,),) = applied.rows("SELECT key::int FROM forebay.tombstones LIMIT 1")
    late = "01a1f" + "0" * 3
    lines = [
        encode(command).replace(b"0199f0c2", late.encode())
        for command in (
            city(0, key=5),
            city(1, key=changed),
            city(2, "delete", key=deleted),
            city(3, key=buried),
        )
    ]
    add(applied, b"".join(lines))
    applied.done("replay", "--yes")

    result = applied.done("verify", *AT)

    assert result["commands_after_cut"] == 4
    cities = next(table for table in result["tables"] if table["table"] == "public.cities")
    assert cities["changed_since_cut"] == 2
    applied.rows("DELETE FROM cities WHERE geonameid = 5")
    applied.done("verify", *AT)
    (differences,) = applied.done("verify", "--at", f"{late}-0000-7000-bfff-ffffffffffff", code=1)[
        "named"
    ]
    assert differences["key"] == "5"


def test_a_repeated_line_in_the_archive_is_not_drift(applied: Operator) -> None:
    """The generated archive has such lines; this line is also in another object."""
    ((line,),) = applied.rows(
        "SELECT line FROM forebay.rejections WHERE resource IS NOT NULL LIMIT 1"
    )
    add(applied, encode(city(1, key=5)) * 2 + bytes(line))
    applied.done("replay", "--yes")

    applied.done("verify", *AT)


def test_verify_writes_nothing(applied: Operator) -> None:
    """A replica must do: the session is read-only, and creates no temporary table."""
    applied.rows(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET default_transaction_read_only = on',"
        " current_database()); END $$"
    )

    applied.done("verify", *AT)


def test_a_cut_in_the_future_is_refused(applied: Operator) -> None:
    result = applied.run("verify", "--at", "2099-01-01")

    assert result.code == 2
    assert "future" in result.err


def add(operator: Operator, content: bytes, name: str = "z") -> str:
    """Add an object to the archive."""
    key = f"commands/2026/01/01/00/{name}.gz"
    file: Path = operator.archive / key
    file.write_bytes(gzip.compress(content))
    return key
