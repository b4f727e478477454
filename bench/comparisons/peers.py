"""Loads the same rows with dlt, Meltano's target-postgres, awswrangler, and one row at a time.

Apply reads gzip objects, as always. The peers get the rows in their own input form, which is made
beforehand, so that only their loading is measured.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack

from bench import orders
from bench.consumers import running
from bench.harness import Aim, Contender, Findings, measure, speed
from bench.peers import dltload, singer
from bench.peers.dltload import Dlt
from bench.peers.rowbyrow import RowByRow
from bench.peers.singer import Singer
from bench.peers.wrangler import Wrangler
from bench.postgres import Database
from bench.stage import Stage

ROWS = 50_000
ROWS_ONE_BY_ONE = 2_000
ROUNDS = 3

APPLY = "apply, one consumer"
_AIMS = {
    "dlt, merge with upsert": 6,
    "Meltano target-postgres": 15,
    "awswrangler, upsert": 2.5,
    "an upsert and a commit per row": 40,
}


def compare(stage: Stage) -> Findings:
    """Load new rows with apply and with each peer."""
    count, row_by_row_count = stage.size(ROWS), stage.size(ROWS_ONE_BY_ONE)
    commands = list(orders.commands(count))
    objects = orders.write_objects(stage.folder, orders.encode_lines(commands), name="new")
    rows = [orders.row(command) for command in commands]
    dicts = [dict(zip(orders.columns(), row, strict=True)) for row in rows]
    findings = Findings()
    with ExitStack() as resources:
        database = resources.enter_context(stage.database())
        connection = resources.enter_context(database.connect())
        consumer = resources.enter_context(running(1, url=database.url, folder=stage.folder))
        by_row = RowByRow(connection)
        wrangler = Wrangler(database.url)
        frame = wrangler.frame(rows)
        dlt = Dlt(database.url, connection, stage.folder / "dlt")
        dlt.prepare(dicts)
        meltano = Singer(database.url, connection, stage.folder)
        meltano.prepare(dicts)
        messages = meltano.messages(dicts)

        def apply() -> None:
            counts = consumer.apply(objects.keys)
            if counts.applied != count:
                raise AssertionError(f"{counts} instead of {count}")

        names = list(_AIMS)
        contenders = [
            Contender(APPLY, apply, count, database.empty),
            Contender(names[0], functools.partial(dlt.load, dicts), count, dlt.empty),
            Contender(names[1], functools.partial(meltano.load, messages), count, meltano.empty),
            Contender(names[2], functools.partial(wrangler.load, frame), count, database.empty),
            Contender(
                names[3],
                functools.partial(by_row.load, rows[:row_by_row_count]),
                row_by_row_count,
                database.empty,
            ),
        ]
        findings.series = measure(contenders, rounds=stage.rounds(ROUNDS))
        _check(database, count)
        findings.facts = {
            "rows": count,
            "rows_one_by_one": row_by_row_count,
            "target_postgres": singer.versions(),
            "target_postgres_start_seconds": round(meltano.start_seconds, 3),
            "postgres": stage.postgres_settings(),
        }
    findings.ratios = [
        speed("apply", findings.series, APPLY, name, Aim(at_least=aim))
        for name, aim in _AIMS.items()
    ]
    return findings


def _check(database: Database, count: int) -> None:
    """Check that the peers with tables of their own have loaded all rows."""
    for schema in (dltload.SCHEMA, singer.SCHEMA):
        rows = database.count(f"{schema}.orders")
        if rows != count:
            raise AssertionError(f"{schema}: {rows} rows instead of {count}")
