"""Lists equal a model in plain Python of the same rows: filters, order, pages, selection."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.postgres.config import OWNER
from tests.fixtures import model
from tests.fixtures.model import Row
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.reading import Reader, close, reader_for
from tests.fixtures.tables import Database, create_tables, open_connection

EXAMPLES = 200
MANY_EXAMPLES = 20_000


@dataclass(frozen=True)
class Both:
    """The same rows behind the read function and in Python."""

    reader: Reader
    rows: Sequence[Row]

    def ask(self, query: Mapping[str, str], path: str = "specimens") -> list[dict[str, Any]]:
        """Return the rows of the read function's answer."""
        response = self.reader.get(path, query=query)
        assert response.status == 200, (query, response.body)
        document: list[dict[str, Any]] = json.loads(response.body, parse_float=Decimal)
        return document

    def keys(self, query: Mapping[str, str]) -> list[int]:
        return [row["number"] for row in self.ask({**query, "select": "number"})]


@pytest.fixture(scope="module")
def both(postgres_cluster: PostgresServer) -> Iterator[Both]:
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(OWNER, name)
        rows = model.random_rows(seed=1)
        with open_connection(url) as connection:
            create_tables(connection, model.RESOURCES)
            outcome = Database(url, connection).apply(
                model.commands(rows), resources=model.RESOURCES
            )
            assert outcome.counts.applied == len(rows) + len(model.SHELVES)
        reader = reader_for(url, model.RESOURCES)
        yield Both(reader, rows)
        close(reader)


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
        ],
    )


def spelled(conditions: Mapping[str, model.Condition]) -> dict[str, str]:
    return {name: condition.spelled for name, condition in conditions.items()}


def order_of(terms: Sequence[model.Term]) -> dict[str, str]:
    return {"order": ",".join(term.spelled for term in terms)} if terms else {}


def check_filters(both: Both, conditions: Mapping[str, model.Condition]) -> None:
    expected = [row["number"] for row in model.matching(both.rows, conditions)]
    assert both.keys(spelled(conditions)) == expected, spelled(conditions)


@pytest.mark.parametrize("column", model.POOLS)
def test_every_operator_of_a_column_agrees_with_the_model(both: Both, column: str) -> None:
    @given(model.parameters([column]))
    @examples(EXAMPLES // 8)
    def holds(parameter: tuple[str, model.Condition]) -> None:
        check_filters(both, dict([parameter]))

    holds()


@examples(EXAMPLES)
@given(conditions=model.filters())
def test_joined_and_nested_filters_agree_with_the_model(
    both: Both, conditions: Mapping[str, model.Condition]
) -> None:
    check_filters(both, conditions)


@examples(EXAMPLES // 2)
@given(terms=model.ORDERS, data=st.data())
def test_order_limit_and_offset_are_the_models(
    both: Both, terms: Sequence[model.Term], data: st.DataObject
) -> None:
    limit, offset = data.draw(st.integers(0, 70)), data.draw(st.integers(0, 70))
    rows = model.ordered(both.rows, terms)
    query = {**order_of(terms), "limit": str(limit), "offset": str(offset)}
    expected = [row["number"] for row in rows[offset : offset + limit]]
    assert both.keys(query) == expected, query


def check_pages(both: Both, terms: Sequence[model.Term], data: st.DataObject) -> None:
    conditions = data.draw(model.filters())
    limit = data.draw(st.integers(4, 20))
    rows = model.ordered(model.matching(both.rows, conditions), terms)
    expected = [[row["number"] for row in page] for page in model.in_pages(rows, limit)]
    query = {**spelled(conditions), **order_of(terms), "limit": str(limit), "select": "number"}
    pages = [[row["number"] for row in page] for page in both.reader.pages("specimens", query)]
    assert pages == expected, query
    last = {**query, "offset": str(max(0, len(rows) - 1))}
    back = list(both.reader.pages("specimens", last, backward=True))
    numbers = [row["number"] for page in reversed(back) for row in page]
    assert numbers == [row["number"] for row in rows], query


@examples(EXAMPLES // 4)
@given(terms=model.ORDERS, data=st.data())
def test_pages_both_ways_are_the_models(
    both: Both, terms: Sequence[model.Term], data: st.DataObject
) -> None:
    check_pages(both, terms, data)


@examples(EXAMPLES // 4)
@given(selection=model.selections())
def test_selected_members_agree_with_the_model(
    both: Both, selection: Sequence[tuple[str, str, model.Operand]]
) -> None:
    documents = both.ask({"select": ",".join(["number", *(text for text, _, _ in selection)])})
    assert len(documents) == len(both.rows)
    for row, document in zip(both.rows, documents, strict=True):
        assert list(document) == ["number", *(name for _, name, _ in selection)]
        for _, name, operand in selection:
            assert model.same_shown(model.shown(operand, row), document[name]), (name, row)


@examples(EXAMPLES // 4)
@given(selection=model.selections())
def test_csv_agrees_with_the_model(
    both: Both, selection: Sequence[tuple[str, str, model.Operand]]
) -> None:
    query = {"select": ",".join(text for text, _, _ in selection)}
    response = both.reader.get("specimens", query=query, Accept="text/csv")
    heading, *lines = csv.reader(io.StringIO(response.body, newline=""), strict=True)
    assert heading == [name for _, name, _ in selection]
    assert len(lines) == len(both.rows)
    for row, line in zip(both.rows, lines, strict=True):
        for (_, name, operand), cell in zip(selection, line, strict=True):
            assert model.same_cell(operand, row, cell), (name, row, cell)


@examples(EXAMPLES // 4)
@given(data=st.data())
def test_related_rows_are_the_models(both: Both, data: st.DataObject) -> None:
    """In both directions, with and without `!inner`, with filters, an order and a window."""
    conditions = data.draw(model.filters())
    terms = data.draw(model.ORDERS)
    limit, offset = data.draw(st.integers(0, 10)), data.draw(st.integers(0, 3))
    inner = data.draw(st.booleans())
    query = {
        "select": f"code,specimens{'!inner' * inner}(number)",
        **{f"specimens.{name}": text for name, text in spelled(conditions).items()},
        **{f"specimens.{name}": text for name, text in order_of(terms).items()},
        "specimens.limit": str(limit),
        "specimens.offset": str(offset),
    }
    rows = model.ordered(model.matching(both.rows, conditions), terms)
    expected = {
        code: [row["number"] for row in rows if row["shelf"] == code][offset : offset + limit]
        for code, _ in model.SHELVES
    }
    numbers_by_shelf = {
        shelf["code"]: [row["number"] for row in shelf["specimens"]]
        for shelf in both.ask(query, "shelves")
    }
    assert numbers_by_shelf == {
        code: keys for code, keys in expected.items() if keys or not inner
    }, query


@examples(EXAMPLES // 8)
@given(data=st.data())
def test_the_row_referred_to_is_the_models(both: Both, data: st.DataObject) -> None:
    label = data.draw(st.sampled_from(["upper", "lower", "none"]))
    negated, inner = data.draw(st.booleans()), data.draw(st.booleans())
    query = {
        "select": f"number,place{'!inner' * inner}(label)",
        "place.label": f"{'not.' * negated}eq.{label}",
    }
    labels = {code: text for code, text in model.SHELVES if (text == label) is not negated}
    expected = [
        {"number": row["number"], "place": text and {"label": text}}
        for row in both.rows
        for text in [labels.get(row["shelf"])]
        if text or not inner
    ]
    assert both.ask(query) == expected


@pytest.mark.long
@pytest.mark.timeout(7200)
@examples(MANY_EXAMPLES)
@given(conditions=model.filters())
def test_many_more_filters_agree_with_the_model(
    both: Both, conditions: Mapping[str, model.Condition]
) -> None:
    check_filters(both, conditions)


@pytest.mark.long
@pytest.mark.timeout(7200)
@examples(MANY_EXAMPLES // 4)
@given(terms=model.ORDERS, data=st.data())
def test_many_more_pages_are_the_models(
    both: Both, terms: Sequence[model.Term], data: st.DataObject
) -> None:
    check_pages(both, terms, data)
