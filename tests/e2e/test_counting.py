"""With any delivery faults, every accepted command is counted, and no other data appears."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from typing import Any

from forebay.apply.prepare import fold
from forebay.codec import decode
from forebay.command import Command
from local.settings import ROOT
from tests.fixtures.stack import RunningStack

CITIES = 1000  # and 252 countries; the test requests every command's status
# Faults affect puts and records. A small request is a single record, so many small requests give
# many chances for faults.
BATCH_ITEMS = 5
FAULTS = {
    "throttle": 0.1,
    "partial_failure": 0.1,
    "duplicate": 0.05,
    "reorder": 0.5,
    "lost_ack": 0.05,
}


def load(stack: RunningStack, *arguments: str) -> dict[str, Any]:
    """Run `make load`'s program with these arguments; return its report."""
    process = subprocess.run(
        [
            *(sys.executable, "-m", "loader", "--json"),
            *("--port", str(stack.settings.ports.base), *arguments),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    report: dict[str, Any] = json.loads(process.stdout)
    return report


def archived_commands(stack: RunningStack) -> list[Command]:
    """The command of every line in the archive, including duplicates."""
    return [
        decode(line)
        for key in stack.keys("commands/")
        for line in gzip.decompress(stack.read_archived(key)).splitlines()
    ]


def ledger(stack: RunningStack) -> dict[str, int]:
    """The ledger's counts, summed over all archive objects."""
    names = ("lines", "applied", "superseded", "duplicates", "rejected")
    sums = ", ".join(f"sum({name})::bigint" for name in names)
    (row,) = stack.rows(f"SELECT {sums} FROM forebay.ledger WHERE completed_at IS NOT NULL")
    return dict(zip(names, row, strict=True))


def versions(stack: RunningStack) -> dict[tuple[str, int | str], str]:
    """The version of every row of both tables, by resource and key."""
    rows: list[tuple[str, int | str, str]] = [
        *stack.rows("SELECT 'countries', code, _version::text FROM countries"),
        *stack.rows("SELECT 'cities', geonameid, _version::text FROM cities"),
    ]
    return {(resource, key): version for resource, key, version in rows}


def test_with_all_faults_on_each_accepted_command_has_a_status_and_there_are_no_others(
    stack: RunningStack,
) -> None:
    stack.empty()
    stack.set_faults(**FAULTS)
    report = load(stack, "--cities", str(CITIES), "--batch", str(BATCH_ITEMS), "--ask-all")
    stack.set_faults()
    stack.settle()

    items = CITIES + 252
    assert (report["items"], report["accepted"]) == (items, items)
    assert report["asked"] == items, "the fate of every single one was asked for"
    assert report["applied"] + report["superseded"] == items
    assert (report["rejected"], report["refused"], report["missing"]) == (0, 0, 0)

    archived = archived_commands(stack)
    copies = Counter(command.id for command in archived)
    winners = {
        (path, winner.key): winner.id
        for path, of_resource in fold(archived).winners.items()
        for winner in of_resource
    }
    assert versions(stack) == winners
    assert stack.rows("SELECT count(*) FROM announcements") == [(0,)]
    assert stack.rows("SELECT count(*) FROM forebay.tombstones") == [(0,)]
    assert stack.rows("SELECT count(*) FROM forebay.rejections") == [(0,)]

    counted = ledger(stack)
    assert counted["lines"] == len(archived)
    assert counted["duplicates"] == copies.total() - len(copies)
    assert counted["duplicates"] >= 1, "or there were no faults"
    assert counted["applied"] == len(winners) == items
    assert counted["superseded"] == len(copies) - items


def test_refused_records_of_a_batch_are_put_again(
    stack: RunningStack,
) -> None:
    """A batch of several MiB becomes several records, each of which Firehose accepts or refuses."""
    stack.empty()
    stack.set_faults(partial_failure=0.4, duplicate=0.4, reorder=1.0)
    announcement = {"title": "Long", "body": "x" * 20_000, "published_on": "2026-11-21"}
    reply = stack.send("POST", "/announcements", [announcement] * 200)
    assert reply.status == 207
    results = reply.json()["results"]
    assert {result["outcome"] for result in results} == {"accepted"}
    stack.set_faults()
    stack.settle()
    for result in results[::20]:
        assert stack.wait_for_status(result["links"]["status"])["status"] == "applied"
    keys = {key for (key,) in stack.rows("SELECT id::text FROM announcements")}
    assert keys == {result["key"] for result in results}
    assert ledger(stack)["applied"] == len(results)


def test_a_second_load_changes_nothing(stack: RunningStack) -> None:
    stack.empty()
    first = load(stack, "--cities", "500")
    rows = stack.rows("SELECT * FROM cities ORDER BY geonameid")
    second = load(stack, "--cities", "500")
    stack.settle()
    assert (first["applied"], first["superseded"]) == (752, 0)
    assert (second["applied"], second["superseded"]) == (0, 752)
    assert stack.rows("SELECT * FROM cities ORDER BY geonameid") == rows
    assert ledger(stack)["superseded"] == 752


def test_a_load_measures_how_long_its_commands_take_to_be_visible(stack: RunningStack) -> None:
    stack.empty()
    report = load(stack, "--cities", "1000", "--sample", "100")
    visible = report["visible_seconds"]
    assert 0 < visible["p50"] <= visible["p99"] <= visible["max"]
    assert report["watched"] >= 100
    assert report["applied"] == 1252
