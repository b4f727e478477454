"""Any request gets an answer, and no text of it becomes part of a statement."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.query.grammar import LIST_HEADERS, list_parameters
from forebay.resource.relations import find_relations
from local.postgres.config import OWNER
from tests.fixtures import model
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.reading import Reader, close, reader_for
from tests.fixtures.tables import Database, create_tables, open_connection

EXAMPLES = 300
MANY_EXAMPLES = 50_000
#: Put into texts and names, where a value may stand; it must not occur in a statement.
MARK = "zq7x"
TOKENS = [
    *(
        "eq.",
        "not.",
        "in.(",
        "is.null",
        "like(any).{",
        "cs.",
        "ov.",
        "fts(english).",
        "and(",
        "or(",
    ),
    *(
        "->>",
        "->",
        "0",
        "-1",
        ",",
        "(",
        ")",
        "{",
        "}",
        '"',
        "\\",
        "::text",
        ":",
        ".",
        "!inner",
        "*",
    ),
    *(
        " ",
        "%",
        "%s",
        "%(p0)s",
        "$1",
        "'",
        "--",
        ";",
        "\x00",
        "\ud800",
        "\U0010ffff",
        "ä",
        "\u2028",
    ),
    *(
        "label",
        "small",
        "extra",
        "tags",
        "place(label)",
        "specimens(",
        "p:place(",
        "p.label.eq.a",
        "place.not.is.null",
        "specimens.limit.1",
        "specimens.order.(",
        "place(specimens(place(label)))",
        "desc",
        "nullsfirst",
        "null",
    ),
    *(MARK, f"'{MARK}", f'"{MARK}"', "1e400", "9" * 30, "NaN", "2026-02-30", "[", "{}", "[[]]"),
    *(
        "count=exact",
        "handling=strict",
        ";q=0.5",
        "text/csv",
        "items",
        "0-9",
        "9-5",
        "W/",
        "=",
        "<>",
    ),
]
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(TOKENS), max_size=12).map("".join))
_IDENTIFIER = re.compile(r'"(?:[^"]|"")*"')
RELATIONS = find_relations(model.RESOURCES)


@dataclass(frozen=True)
class Asked:
    """The read function over specimens, and the statements that it has executed."""

    reader: Reader
    statements: list[str]

    def check(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> int:
        """Send a request, check its answer, find no mark in its statements; return the status."""
        self.statements.clear()
        named = {name.replace("-", "_"): value for name, value in headers.items()}
        response = self.reader.get(path, query=query, **named)
        assert response.status in {200, 206, 300, 304, 400, 406, 416}, response.body
        response.body.encode()
        if response.status >= 300 and response.body:
            assert json.loads(response.body)["message"]
        for value in response.headers.values():
            value.encode("latin-1")
            assert "\n" not in value
        # A client may name members; these names are quoted identifiers in the statement.
        texts = [_IDENTIFIER.sub("", statement) for statement in self.statements]
        assert not any(MARK in text for text in texts)
        assert len(self.statements) <= 2
        return response.status


@pytest.fixture(scope="module")
def asked(postgres_cluster: PostgresServer) -> Iterator[Asked]:
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(OWNER, name)
        with open_connection(url) as connection:
            create_tables(connection, model.RESOURCES)
            rows = model.random_rows(seed=2)
            Database(url, connection).apply(model.commands(rows), resources=model.RESOURCES)
        statements: list[str] = []
        reader = reader_for(url, model.RESOURCES, statements)
        yield Asked(reader, statements)
        close(reader)


def examples(count: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=count,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@st.composite
def requests(draw: model.Draw) -> tuple[str, dict[str, str], dict[str, str]]:
    """Draw a resource, parameters and headers: pieces of the grammar, or damaged valid texts."""
    path = draw(st.sampled_from(sorted(model.RESOURCES)))
    names = st.sampled_from(list_parameters(model.RESOURCES[path], RELATIONS[path]))
    query = draw(st.dictionaries(names, TEXTS, max_size=3))
    if path == "specimens" and draw(st.booleans()):
        right = {name: condition.spelled for name, condition in draw(model.filters()).items()}
        terms = draw(model.ORDERS)
        if terms:
            right["order"] = ",".join(term.spelled for term in terms)
        chosen = draw(model.selections())
        right["select"] = ",".join(text for text, _, _ in chosen) + ",place(label)"
        query = {**right, **query} if draw(st.booleans()) else right
        damaged = draw(st.sampled_from(sorted(query)))
        query[damaged] = draw(damages(query[damaged]))
    headers = draw(st.dictionaries(st.sampled_from(LIST_HEADERS), TEXTS, max_size=2))
    return path, query, headers


@st.composite
def damages(draw: model.Draw, text: str) -> str:
    """Draw the text with a piece of the grammar inserted, or in place of a few characters."""
    start = draw(st.integers(0, len(text)))
    end = min(len(text), start + draw(st.integers(0, 3)))
    piece: str = draw(st.sampled_from(["", *TOKENS]))
    return text[:start] + piece + text[end:]


@examples(EXAMPLES)
@given(requests())
def test_any_request_is_answered_and_bound(
    asked: Asked, request_: tuple[str, dict[str, str], dict[str, str]]
) -> None:
    asked.check(*request_)


@pytest.mark.long
@pytest.mark.timeout(7200)
@examples(MANY_EXAMPLES)
@given(requests())
def test_many_more_requests_are_answered_and_bound(
    asked: Asked, request_: tuple[str, dict[str, str], dict[str, str]]
) -> None:
    asked.check(*request_)


#: Valid requests with a mark in every place where the grammar takes a client's text.
MARKED: Sequence[tuple[str, dict[str, str]]] = [
    ("specimens", {"label": f"{operator}.{MARK}"})
    for operator in (
        *("eq", "neq", "gt", "gte", "lt", "lte", "like", "ilike", "match", "imatch", "isdistinct"),
        *("fts", "plfts", "phfts", "wfts", "fts(english)", "not.eq"),
    )
] + [
    ("specimens", {"label": f"in.({MARK},b)"}),
    ("specimens", {"label": f"eq(any).{{{MARK},b}}"}),
    ("specimens", {"label": f"not.like(all).{{{MARK}*}}"}),
    ("specimens", {"tags": f"cs.{{{MARK}}}"}),
    ("specimens", {"tags": f'cd.["{MARK}"]'}),
    ("specimens", {"tags": f"ov.{{{MARK}}}"}),
    ("specimens", {"extra": f'eq.{{"{MARK}":1}}'}),
    ("specimens", {"or": f"(extra->{MARK}.is.null,extra->>{MARK}.eq.{MARK})"}),
    ("specimens", {"not.and": f'(extra->{MARK}->0.eq."{{}}",label.eq."{MARK}")'}),
    (
        "specimens",
        {"order": f"extra->{MARK}->>a.desc", "select": f"a:extra->{MARK},b:extra->>{MARK}"},
    ),
    ("specimens", {"select": "number,place!inner(label)", "place.label": f"eq.{MARK}"}),
    ("shelves", {"select": "code,specimens(number)", "specimens.or": f"(label.eq.{MARK})"}),
    (
        "shelves",
        {"select": f"code,specimens(x:extra->{MARK})", "specimens.order": f"extra->{MARK}"},
    ),
    ("shelves", {"select": "code,specimens!inner()", "specimens.note": f"eq.{MARK}"}),
    ("specimens", {"select": "number,p:place(label)", "and": f"(p.label.eq.{MARK})"}),
    ("specimens", {"select": "number,place()", "place.label": f"eq.{MARK}", "place": "is.null"}),
    (
        "shelves",
        {
            "select": f"code,{MARK}:specimens(number,place(label))",
            "and": f"({MARK}.place.label.eq.{MARK},{MARK}.order.(extra->{MARK}.desc))",
        },
    ),
    ("specimens", {"tags": f"gt.{{{MARK}}}"}),
    ("specimens", {"extra": f"not.plfts.{MARK}"}),
]


@pytest.mark.parametrize(("path", "query"), MARKED, ids=str)
@pytest.mark.parametrize("count", ["", "count=exact", "count=planned"])
def test_a_clients_text_is_a_parameter_of_the_statement(
    asked: Asked, path: str, query: dict[str, str], count: str
) -> None:
    assert asked.check(path, {**query, "limit": "7531", "offset": "0"}, {"Prefer": count}) in {
        200,
        206,
    }
    assert not any("7531" in statement for statement in asked.statements)


def test_the_values_of_a_cursor_are_parameters(asked: Asked) -> None:
    query = {"order": "label.desc,extra->>a", "limit": "3"}
    labels: set[str] = set()
    for page, _ in zip(asked.reader.pages("specimens", query), range(5), strict=False):
        labels |= {row["label"] for row in page if len(row["label"]) > 3}
        assert not any(label in text for label in labels for text in asked.statements)
    assert labels
