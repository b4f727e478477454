"""awswrangler (AWS SDK for pandas): `postgresql.to_sql(mode="upsert")`, over pg8000."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import awswrangler
import pandas as pd
import pg8000

from bench import orders

# Rows per statement: more rows are faster, and the protocol's limit is 65,535 parameters.
_CHUNK = 5_000


class Wrangler:
    """Upserts data frames into the table of orders."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = pg8000.connect(
            user=parts.username,
            password=parts.password,
            host=parts.hostname,
            port=parts.port,
            database=parts.path.lstrip("/"),
        )

    def frame(self, rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
        """The rows as a data frame."""
        return pd.DataFrame(rows, columns=orders.columns(), dtype=object)

    def load(self, frame: pd.DataFrame) -> None:
        """Load all rows in a single transaction."""
        awswrangler.postgresql.to_sql(
            df=frame,
            con=self._connection,
            table=orders.SPEC.table,
            schema="public",
            mode="upsert",
            index=False,
            upsert_conflict_columns=[orders.SPEC.key.name],
            chunksize=_CHUNK,
            use_column_names=True,
        )
