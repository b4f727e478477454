"""`forebay rebuild` compared with its limit: COPY of the final rows, then creation of the indexes.

The archive contains cities as after years of traffic (10 % updates, 2 % deletes, shuffled over 400
objects). A rebuild reads all of it, folds it on disk, and produces tables, tombstones and ledger;
`fsync` is on. `--size 5000000` measures 5 million commands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.harness import Aim, Contender, Findings, measure, say, single, speed
from bench.machine import PeakMemory
from bench.postgres import Database
from bench.stage import Stage
from local.settings import ROOT
from ops.rebuild.target import put_off
from resources import load
from tests.fixtures.archives import Recipe, write_archive

COMMANDS = 1_000_000
ROUNDS = 1
_PROGRAM = """
from forebay.collector import collect_seldom
from ops import cli
collect_seldom()
code = cli.run(["rebuild", "--yes", "--json"])
raise SystemExit(int(code))
"""
REBUILD, COPY = "rebuild", "COPY of the rows, then indexes"
MAX_MEBIBYTES = 256


def compare(stage: Stage) -> Findings:
    """Run each once, in turn."""
    count = stage.chosen_size or stage.size(COMMANDS)
    archive = stage.folder / "archive"
    say(f"  writing an archive of {count:,} commands")
    write_archive(archive, Recipe(count, poison=0))
    facts: dict[str, Any] = {}

    def rebuild() -> float:
        with stage.bare_database() as database:
            facts.update(_rebuild(database, archive))
            if "rows" not in facts["limit"]:
                facts["limit"] = _measure_limit(database)
        return float(facts["seconds"])

    facts["limit"] = {}
    rounds = stage.rounds(ROUNDS)
    series = measure([Contender(REBUILD, rebuild, count)], rounds=rounds)
    limit = facts["limit"]
    series += measure([Contender(COPY, lambda: float(limit["seconds"]), count)], rounds=rounds)
    peak = facts["peak_mebibytes"]
    return Findings(
        series,
        [
            speed(f"rebuild of {count:,} commands", series, REBUILD, COPY, Aim(at_least=0.6)),
            single(
                f"peak memory of a rebuild, {peak:.0f} MiB",
                f"{MAX_MEBIBYTES} MiB",
                peak / MAX_MEBIBYTES,
                "size",
                Aim(at_most=1),
            ),
        ],
        {
            "commands": count,
            "rows": limit["rows"],
            "processes": facts["processes"],
            "postgres": stage.postgres_settings(),
        },
    )


def _rebuild(database: Database, archive: Path) -> dict[str, Any]:
    """The command's output, its seconds, and the peak memory of all its processes."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("FOREBAY")
    }
    environment |= {
        "FOREBAY_DATABASE_URL": database.url,
        "FOREBAY_ARCHIVE_BUCKET": f"file://{archive}",
    }
    start = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own command line
        [sys.executable, "-c", _PROGRAM],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with PeakMemory(process.pid) as peak:
        output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"rebuild ended with {process.returncode}: {output[-500:]}")
    seconds = time.perf_counter() - start
    return {**json.loads(output), "seconds": seconds, "peak_mebibytes": peak.mebibytes}


def _measure_limit(database: Database) -> dict[str, float]:
    """COPY the same rows into a table without indexes, then create these, in one transaction."""
    with database.connect() as connection:
        with connection.cursor().copy("COPY cities TO STDOUT") as copy_out:
            rows = b"".join(bytes(block) for block in copy_out)
        database.settle("cities")
        with connection.transaction():
            objects = put_off(connection, load()["cities"])
            start = time.perf_counter()
            connection.execute("TRUNCATE cities")
            for item in objects:
                connection.execute(item.drop)
            with connection.cursor().copy("COPY cities FROM STDIN (FREEZE)") as copy:
                copy.write(rows)
            for item in reversed(objects):
                connection.execute(item.make)
        seconds = time.perf_counter() - start
    return {"rows": rows.count(b"\n"), "seconds": seconds}
