"""dlt: a pipeline with `merge`, strategy `upsert`, and CSV files, which it loads by COPY.

It loads into its own table, because it adds columns; the table gets the same indexes as Forebay's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dlt

from bench import orders
from forebay.db.connect import Connection

SCHEMA = "bench_dlt"


class Dlt:
    """Merges dicts into its table."""

    def __init__(self, url: str, connection: Connection, folder: Path) -> None:
        os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
        os.environ["RUNTIME__LOG_LEVEL"] = "CRITICAL"
        self._connection = connection
        self._pipeline = dlt.pipeline(
            "bench",
            destination=dlt.destinations.postgres(url),
            dataset_name=SCHEMA,
            pipelines_dir=str(folder),
        )

    def prepare(self, rows: Sequence[dict[str, Any]]) -> None:
        """Let dlt create its table, and add the indexes of Forebay's."""
        self.load(rows[:100])
        self._connection.execute(f"CREATE UNIQUE INDEX ON {SCHEMA}.orders (id)".encode())
        self._connection.execute(f"CREATE INDEX ON {SCHEMA}.orders (customer)".encode())

    def empty(self) -> None:
        """Empty its table."""
        self._connection.execute(f"TRUNCATE {SCHEMA}.orders".encode())

    def load(self, rows: Sequence[dict[str, Any]]) -> None:
        """Extract, normalize, load and merge."""
        self._pipeline.run(
            rows,
            table_name="orders",
            primary_key=orders.SPEC.key.name,
            write_disposition={"disposition": "merge", "strategy": "upsert"},
            loader_file_format="csv",
        )
