"""Rows as text for COPY: Postgres reads back the values of the rows."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from forebay.db.copy_text import copy_text, copy_texts
from tests.fixtures.tables import Database

_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    _TEXTS,
    st.sampled_from(["\\N", "\\.", "\t", "a\nb", "\r\n", "\\", "", "\x0b\x08\x0c", "\x85\u2028"]),
)
#: Most columns have a type of their own, as in real rows; the last has values of any type.
_ROWS = st.lists(
    st.tuples(_TEXTS, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(allow_nan=False),
              st.none() | _TEXTS, st.none() | st.booleans(), _VALUES),
    max_size=20,
)  # fmt: skip


def _as_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "t" if value else "f"
    return None if value is None else str(value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_ROWS)
@example(rows=[])
@example(rows=[("a\\", 1, True, 1e300, None, None, None)] * 1_001)
def test_postgres_reads_back_the_encoded_values(
    database: Database, rows: list[tuple[Any, ...]]
) -> None:
    run = database.connection.execute
    run("DROP TABLE IF EXISTS copied")
    run(
        "CREATE TEMP TABLE copied (n int GENERATED ALWAYS AS IDENTITY, a text, b bigint, c boolean,"
        " d double precision, e text, f boolean, g text)"
    )
    with database.connection.cursor().copy("COPY copied (a, b, c, d, e, f, g) FROM STDIN") as copy:
        columns = list(zip(*rows, strict=True))
        for text in copy_texts(columns):
            copy.write(text)
    result_rows = run("SELECT a, b, c, d, e, f, g FROM copied ORDER BY n").fetchall()
    assert result_rows == [(*row[:-1], _as_text(row[-1])) for row in rows]
    assert b"".join(copy_texts(columns)) == copy_text(columns)
