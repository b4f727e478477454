"""Hostile queries of the whole grammar cost a server process bounded memory and time.

Memory is that of the process itself, as Linux reports it, so it does not depend on the machine's
speed. Times are compared with the statement time-out, which is the bound.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambdas.read.sql.limits import RELATED_MAX_BYTES, REPEATED_MAX_BYTES
from local.postgres.config import OWNER
from tests.fixtures import costly, model
from tests.fixtures.costly import MIB
from tests.fixtures.emulator import wait_until
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.reading import Reader, close, reader_for
from tests.fixtures.tables import create_tables, open_connection

pytestmark = pytest.mark.timeout(600)

#: As documented in docs/security.md, for Postgres's default `work_mem` of 4 MiB.
MEMORY_BOUND = 192 * MIB
STATEMENT_TIMEOUT_SECONDS = 4.0
#: As in every environment (`database.read_timeout_seconds`).
ITEM_TIMEOUT_SECONDS = 10.0
#: Factor for delays: Postgres checks for the time-out at certain points, on a busy machine.
GRACE = 3
EXAMPLES = 25
AT_ONCE = 20


@pytest.fixture(scope="module")
def costly_url(postgres_cluster: PostgresServer) -> Iterator[str]:
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(OWNER, name)
        with open_connection(url) as connection:
            create_tables(connection, costly.RESOURCES)
            costly.fill(connection)
        yield url


@pytest.fixture
def costly_reader(costly_url: str) -> Iterator[Reader]:
    new_reader = _reader(costly_url)
    yield new_reader
    close(new_reader)


def _reader(url: str) -> Reader:
    return reader_for(
        url, costly.RESOURCES, statement_timeout_ms=round(STATEMENT_TIMEOUT_SECONDS * 1000)
    )


@pytest.mark.parametrize(
    "query",
    [
        {
            "limit": "40",
            "select": "code," + ",".join(f"x{n}:papers(title)" for n in range(49)),
            "papers.limit": "10000",
        },
        {
            "limit": "40",
            "select": "code," + ",".join(f"x{n}:papers(title)" for n in range(10)),
            "papers.limit": "10000",
        },
        {"select": ",".join(f"x{n}:summary" for n in range(99))},
        {"select": ",".join(f"x{n}:details" for n in range(99))},
        {"select": ",".join(f"x{n}:details->pages" for n in range(99))},
        {"select": ",".join(f"x{n}:summary" for n in range(17)), "limit": "10000"},
    ],
    ids=["49 relations", "10 relations", "texts", "documents", "places", "17 texts"],
)
@pytest.mark.parametrize("accept", ["application/json", "text/csv"])
def test_the_memory_of_a_process_for_one_item_is_bounded(
    costly_reader: Reader, query: Mapping[str, str], accept: str
) -> None:
    with costly.watched(costly_reader) as cost:
        costly.answered(costly_reader, "folders", query, Accept=accept)
    assert cost.bytes <= MEMORY_BOUND


def test_related_rows_above_the_bound_are_refused_by_name(costly_reader: Reader) -> None:
    titles = ",".join(f"t{number}:title" for number in range(6))
    query = {
        "code": "eq.f1",
        "select": ",".join(f"p{n}:papers({titles})" for n in range(4)),
        "papers.limit": "10000",
    }
    response = costly_reader.get("folders", query=query)
    problem = json.loads(response.body)
    assert (response.status, problem["code"]) == (400, "answer_too_large")
    assert f"{RELATED_MAX_BYTES // 4:,} bytes" in problem["detail"]
    assert "'p0'" in problem["detail"]
    assert "limit" in problem["hint"]
    assert costly_reader.get("folders", query={**query, "papers.limit": "100"}).status == 200


def test_a_large_related_row_among_few_is_answered(costly_reader: Reader) -> None:
    """Each of 100 rows may take a hundredth of the bound, and a single row may take more."""
    query = {"select": "number,folders(summary),x:folders(details)", "limit": "2"}
    assert costly_reader.get("papers", query=query).status == 200
    query = {"select": "label,cabinets(folder,content)", "code": "eq.f1"}
    (row,) = json.loads(costly_reader.get("folders", query=query).body)
    assert [len(cabinet["content"]) for cabinet in row["cabinets"]] == [1_000, 900_000]


def test_a_column_repeated_above_the_bound_is_refused_by_name(costly_reader: Reader) -> None:
    query = {"select": ",".join(f"x{n}:summary" for n in range(99))}
    problem = json.loads(costly_reader.get("folders", query=query).body)
    assert problem["code"] == "too_costly"
    assert "summary" in problem["detail"]
    assert f"{REPEATED_MAX_BYTES:,} bytes" in problem["detail"]


def test_a_column_repeated_below_the_bound_is_answered(costly_reader: Reader) -> None:
    query = {"select": ",".join(f"x{n}:label,y{n}:details->none" for n in range(40)), "limit": "2"}
    rows = json.loads(costly_reader.get("folders", query=query).body)
    assert [len(row) for row in rows] == [80, 80]


def test_rows_behind_a_full_page_are_not_written(costly_reader: Reader) -> None:
    """Postgres stops at the first row that does not fit, whatever the limit is."""
    with costly.watched(costly_reader) as few:
        page = costly_reader.get("folders", query={"limit": "12", "select": "code,summary"})
    with costly.watched(costly_reader) as many:
        full = costly_reader.get("folders", query={"limit": "10000", "select": "code,summary"})
    assert len(json.loads(page.body)) == 12
    rows = len(json.loads(full.body))
    assert 12 < rows < costly.FOLDERS
    assert many.processor_seconds < few.processor_seconds * 8 + 0.5


NUMBERS = st.sampled_from(["0", "1", "40", "10000"])
TEXT_FILTERS = st.sampled_from([
    r"match.(a*)*\1b", "imatch.^((a|aa)+)+$", "match.(a?){255}a{255}", "match.(?=.*a)(?=.*b)c",
    "match.(a{1,255}){1,255}", "match.((((x?){2}){2}){2}){2}b", "match." + "(a|b)*a(a|b){200}c",
    "imatch." + "[^a]" * 200, "like." + "*a" * 400 + "b", "ilike." + "*_" * 300,
    "like(any).{" + ",".join("*a*b" * 5 for _ in range(40)) + "}",
    "fts." + "|".join(["a"] * 300), "fts." + "<->".join(["a"] * 150),
    "wfts." + "a or " * 150 + "a", "plfts." + "a " * 400,
    "in.(" + ",".join("a" * 9 for _ in range(900)) + ")", "not.eq." + "a" * 9_000,
])  # fmt: skip


@st.composite
def hostile_queries(draw: model.Draw) -> tuple[str, dict[str, str], dict[str, str]]:
    """Draw a list that requests as much as possible of everything."""
    path = draw(st.sampled_from(["folders", "papers"]))
    text = "summary" if path == "folders" else "title"
    query = {"limit": draw(NUMBERS), text: draw(TEXT_FILTERS)}
    if draw(st.booleans()):
        del query[text]
    relation = "papers" if path == "folders" else "folders"
    inner = draw(st.sampled_from(["", "!inner"]))
    members = draw(st.sampled_from(["*", "title" if path == "folders" else "summary", ""]))
    count = draw(st.integers(0, 30))
    own = draw(st.integers(0, 99 - 8 * count if count < 12 else 0))
    place = draw(st.sampled_from([text, "details->pages", "details"]))
    if path == "papers":
        place = text
    query["select"] = ",".join([
        draw(st.sampled_from(["*", "code" if path == "folders" else "number"])),
        *(f"r{n}:{relation}{inner}({members})" for n in range(count)),
        *(f"o{n}:{place}" for n in range(own)),
    ])  # fmt: skip
    if count and path == "folders":
        query["papers.limit"] = draw(NUMBERS)
        query["papers.order"] = draw(st.sampled_from(["title", "title.desc,folder", "number"]))
    if count and draw(st.booleans()):
        query[f"{relation}.{'title' if path == 'folders' else 'summary'}"] = draw(TEXT_FILTERS)
    if draw(st.booleans()):
        query["order"] = text + ".desc"
    if draw(st.booleans()):
        query["and"] = "(" + ",".join(f"{text}.like.*{n}*" for n in range(40)) + ")"
    headers = {
        "Accept": draw(st.sampled_from(["application/json", "text/csv"])),
        "Prefer": draw(st.sampled_from(["", "count=exact", "count=estimated"])),
    }
    return path, query, headers


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(hostile_queries())
def test_any_query_is_within_the_bounds_of_memory_and_time(
    costly_url: str, request_: tuple[str, dict[str, str], dict[str, str]]
) -> None:
    path, query, headers = request_
    reader = _reader(costly_url)
    try:
        with costly.watched(reader) as cost:
            costly.answered(reader, path, query, **headers)
    finally:
        close(reader)
    assert cost.bytes <= MEMORY_BOUND
    # Two statements at most: one fails on a large row and one measures, or a page and an estimate.
    assert cost.seconds <= 2 * STATEMENT_TIMEOUT_SECONDS * GRACE


def test_twenty_hostile_queries_leave_an_item_below_its_time_out(costly_url: str) -> None:
    hostile: list[tuple[str, dict[str, str]]] = [
        ("folders", {"limit": "10000", "select": "*,a:papers(*),b:papers(title)",
                     "papers.limit": "10000", "papers.order": "title"}),
        ("papers", {"title": "imatch." + "(a|b)*a(a|b){200}c", "order": "title"}),
        ("papers", {"title": "ilike." + "*_" * 300, "order": "title.desc"}),
        ("folders", {"summary": "fts." + "|".join(["a"] * 300)}),
    ]  # fmt: skip
    ended = threading.Event()

    def attack(number: int) -> None:
        reader = _reader(costly_url)
        path, query = hostile[number % len(hostile)]
        while not ended.is_set():
            costly.answered(reader, path, query, Prefer="count=exact")
        close(reader)

    reader = _reader(costly_url)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        attacks = [pool.submit(attack, number) for number in range(AT_ONCE)]
        try:
            _wait_until_attacked(costly_url)
            for _ in range(5):
                started = time.monotonic()
                assert reader.get("papers", key="7").status == 200
                assert time.monotonic() - started < ITEM_TIMEOUT_SECONDS
        finally:
            ended.set()
        for attacked in attacks:
            attacked.result()
    close(reader)


def _wait_until_attacked(url: str) -> None:
    """Wait until the database executes at least half of the attacks at the same time."""
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
    """
    with psycopg.connect(url, autocommit=True) as connection:

        def is_attacked() -> bool:
            (row,) = connection.execute(query)
            return int(row[0]) >= AT_ONCE // 2

        wait_until(is_attacked, "half of the attacks run")
