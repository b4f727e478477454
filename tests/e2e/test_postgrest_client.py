"""Every list query that PostgREST's Python client can send, on the whole stack."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from postgrest import APIError, CountMethod, SyncPostgrestClient
from postgrest._sync.request_builder import SyncSelectRequestBuilder

from loader.data import read_cities, read_countries
from tests.fixtures.stack import RunningStack

Row = Mapping[str, Any]
Ask = Callable[[Any], Any]

COUNTRIES: list[Row] = [item.body for item in read_countries()]
CITIES: list[Row] = [item.body for item in read_cities(500)]
NEWS: list[dict[str, Any]] = [
    {"title": "Roads", "tags": ["roads", "a,b"], "pinned": True, "expires_at": None},
    {"title": "rats & cats", "tags": ["cats", 'say "x"'], "pinned": False, "expires_at": None},
    {"title": "A fat cat", "tags": [], "pinned": False, "expires_at": "2026-03-01T12:00:00+00:00"},
    {"title": "back\\slash (50%)", "tags": ["roads", "cats"], "pinned": True, "expires_at": None},
]
BODIES = ["The fat cat ate rats", "fat rats", "", 'nothing, "really"\r\nnothing']


@pytest.fixture(scope="module")
def client(shared_stack: RunningStack) -> Iterator[SyncPostgrestClient]:
    """A client of the stack, which has every country, 500 cities and four announcements."""
    stack = shared_stack
    stack.empty()
    news = [
        {**entry, "body": body, "published_on": "2026-02-28"}
        for entry, body in zip(NEWS, BODIES, strict=True)
    ]
    for path, bodies in (("countries", COUNTRIES), ("cities", CITIES), ("announcements", news)):
        reply = stack.send("POST", f"/{path}", bodies)
        assert reply.status == 207
        results = reply.json()["results"]
        assert {result["outcome"] for result in results} == {"accepted"}
    stack.settle()
    assert (
        stack.wait_for_status(results[-1]["links"]["status"])["status"] == "applied"
    )  # on the replica
    stack.flush_cache()
    with SyncPostgrestClient(f"http://127.0.0.1:{stack.settings.ports.gateway}/v1") as new_client:
        yield new_client


# Supported queries

NAMES = {country["code"]: country["name"] for country in COUNTRIES}
# By the client's method: a query on countries, and the predicate of the expected countries.
ON_COUNTRIES: Mapping[str, tuple[Ask, Callable[[Row], Any]]] = {
    "filter": (lambda q: q.filter("code", "eq", "DE"), lambda c: c["code"] == "DE"),
    "eq": (
        lambda q: q.eq("name", "Bonaire, Saint Eustatius and Saba "),
        lambda c: "Saba" in c["name"],
    ),
    "neq": (lambda q: q.neq("continent", "EU"), lambda c: c["continent"] != "EU"),
    "gt": (lambda q: q.gt("population", 10**8), lambda c: c["population"] > 10**8),
    "gte": (lambda q: q.gte("name", "V"), lambda c: c["name"] >= "V"),
    "lt": (lambda q: q.lt("area_km2", 12.5), lambda c: c["area_km2"] < 12.5),
    "lte": (lambda q: q.lte("population", 0), lambda c: c["population"] <= 0),
    "is_": (lambda q: q.is_("capital", None), lambda c: c["capital"] is None),
    "like": (lambda q: q.like("name", "%land%"), lambda c: "land" in c["name"]),
    "ilike": (lambda q: q.ilike("name", "*LAND"), lambda c: c["name"].endswith("land")),
    "like_all_of": (
        lambda q: q.like_all_of("name", "S%,%land"),
        lambda c: c["name"].startswith("S") and c["name"].endswith("land"),
    ),
    "like_any_of": (
        lambda q: q.like_any_of("name", "San*,*stan"),
        lambda c: c["name"].startswith("San") or c["name"].endswith("stan"),
    ),
    "ilike_all_of": (
        lambda q: q.ilike_all_of("name", "%A,%I%"),
        lambda c: c["name"].lower().endswith("a") and "i" in c["name"].lower(),
    ),
    "ilike_any_of": (
        lambda q: q.ilike_any_of("name", "zam%,ZIM%"),
        lambda c: c["name"][:3] in {"Zam", "Zim"},
    ),
    "in_": (
        lambda q: q.in_("name", ["Bonaire, Saint Eustatius and Saba ", "Chad", 'no "such"']),
        lambda c: "Saba" in c["name"] or c["name"] == "Chad",
    ),
    "or_": (
        lambda q: q.or_("code.eq.DE,and(continent.eq.OC,population.gt.1000000)"),
        lambda c: c["code"] == "DE" or (c["continent"] == "OC" and c["population"] > 10**6),
    ),
    "match": (
        lambda q: q.match({"continent": "EU", "currency": "CHF"}),
        lambda c: (c["continent"], c["currency"]) == ("EU", "CHF"),
    ),
    "not_": (lambda q: q.not_.is_("capital", None), lambda c: c["capital"] is not None),
    "not_.in_": (
        lambda q: q.not_.in_("continent", ["EU", "AF"]),
        lambda c: c["continent"] not in {"EU", "AF"},
    ),
    "not_.or_": (
        lambda q: q.not_.or_("continent.eq.EU,population.gt.1000"),
        lambda c: c["continent"] != "EU" and c["population"] <= 1000,
    ),
    "not_.like_any_of": (
        lambda q: q.not_.like_any_of("name", "%a%,%e%"),
        lambda c: "a" not in c["name"] and "e" not in c["name"],
    ),
    "several": (
        lambda q: q.eq("continent", "AS").gt("population", 10**8).not_.like("name", "I%"),
        lambda c: c["continent"] == "AS" and c["population"] > 10**8 and c["name"][0] != "I",
    ),
    "filter (match, any)": (
        lambda q: q.filter("name", "match(any)", '{"^S.*n$",^Y}'),
        lambda c: (c["name"][0] == "S" and c["name"][-1] == "n") or c["name"][0] == "Y",
    ),
    "filter (isdistinct)": (
        lambda q: q.filter("currency", "isdistinct", "EUR"),
        lambda c: c["currency"] != "EUR",
    ),
    "retry": (lambda q: q.eq("code", "DE").retry(False), lambda c: c["code"] == "DE"),
}
# By the client's method: a query on announcements, and the expected titles.
ON_NEWS: Mapping[str, tuple[Ask, list[str]]] = {
    "eq": (lambda q: q.eq("pinned", True), ["Roads", "back\\slash (50%)"]),
    "eq (list)": (lambda q: q.eq("tags", ["roads", "a,b"]), ["Roads"]),
    "is_": (lambda q: q.is_("pinned", False), ["rats & cats", "A fat cat"]),
    "in_": (lambda q: q.in_("title", ["back\\slash (50%)", "a,b"]), ["back\\slash (50%)"]),
    "gt": (lambda q: q.gt("expires_at", "2026-03-01T12:59:00+01:00"), ["A fat cat"]),
    "cs": (lambda q: q.cs("tags", ["roads", "cats"]), ["back\\slash (50%)"]),
    "contains": (lambda q: q.contains("tags", ["a,b"]), ["Roads"]),
    "contains (quotes)": (lambda q: q.contains("tags", ['say "x"']), ["rats & cats"]),
    "contains (JSON)": (
        lambda q: q.contains("tags", '["cats"]'),
        ["rats & cats", "back\\slash (50%)"],
    ),
    "cd": (lambda q: q.cd("tags", ["roads", "a,b"]), ["Roads", "A fat cat"]),
    "contained_by": (
        lambda q: q.contained_by("tags", ["cats", "roads"]),
        ["A fat cat", "back\\slash (50%)"],
    ),
    "ov": (lambda q: q.ov("tags", ["a,b", "cats"]), ["Roads", "rats & cats", "back\\slash (50%)"]),
    "overlaps": (lambda q: q.overlaps("tags", ['say "x"', "no"]), ["rats & cats"]),
    "not_.cs": (lambda q: q.not_.cs("tags", ["roads"]), ["rats & cats", "A fat cat"]),
    "fts": (lambda q: q.fts("body", "'fat' & 'cat'"), ["Roads"]),
    "plfts": (lambda q: q.plfts("body", "rats fat"), ["Roads", "rats & cats"]),
    "phfts": (lambda q: q.phfts("body", "fat cat"), ["Roads"]),
    "wfts": (lambda q: q.wfts("body", 'rats -"fat cat"'), ["rats & cats"]),
    "text_search": (
        lambda q: q.text_search("body", "ate rat", {"type": "plain", "config": "english"}),
        ["Roads"],
    ),
    "text_search (web)": (
        lambda q: q.text_search(
            "title", "road or cat", {"type": "web_search", "config": "english"}
        ),
        ["Roads", "rats & cats", "A fat cat"],
    ),
    "or_ (JSON)": (
        lambda q: q.or_("tags->>0.eq.cats,tags->>1.eq.cats"),
        ["rats & cats", "back\\slash (50%)"],
    ),
}


@pytest.mark.parametrize("name", ON_COUNTRIES)
def test_a_filter_of_the_client_finds_the_matching_rows(
    client: SyncPostgrestClient, name: str
) -> None:
    ask, holds = ON_COUNTRIES[name]
    rows = ask(client.from_("countries").select("*").limit(1000)).execute().data
    expected = [country for country in COUNTRIES if holds(country)]
    assert expected
    assert rows == sorted(expected, key=lambda country: str(country["code"]))


@pytest.mark.parametrize("name", ON_NEWS)
def test_a_filter_of_the_client_on_lists_and_texts(client: SyncPostgrestClient, name: str) -> None:
    ask, expected = ON_NEWS[name]
    rows = ask(client.from_("announcements").select("title")).execute().data
    assert sorted(row["title"] for row in rows) == sorted(expected)


# Queries that the client can send and Forebay refuses, as listed in docs/reading.md.
REFUSED: Mapping[str, tuple[str, Ask, str, str]] = {
    "a column twice": (
        "countries",
        lambda q: q.gte("population", 1).lte("population", 9),
        "repeated_parameter",
        "and=(",
    ),
    "two or_": (
        "countries",
        lambda q: q.or_("code.eq.DE").or_("code.eq.FR"),
        "repeated_parameter",
        "and=(",
    ),
    "limit and range": (
        "countries",
        lambda q: q.limit(5).range(0, 9),
        "repeated_parameter",
        "limit",
    ),
    "select twice": ("countries", lambda q: q.select("name"), "repeated_parameter", "select"),
    "a place in JSON": (
        "announcements",
        lambda q: q.eq("tags->>0", "cats"),
        "unknown_parameter",
        "and=(",
    ),
    "an alias": (
        "cities",
        lambda q: q.eq("land.name", "France"),
        "unknown_parameter",
        "country.name",
    ),
    "no column": ("countries", lambda q: q.eq("nmae", "x"), "unknown_parameter", "`name`"),
    "sl": ("countries", lambda q: q.sl("population", (1, 9)), "PGRST100", "sl"),
    "sr": ("countries", lambda q: q.sr("population", (1, 9)), "PGRST100", "sr"),
    "nxl": ("countries", lambda q: q.nxl("population", (1, 9)), "PGRST100", "nxl"),
    "nxr": ("countries", lambda q: q.nxr("population", (1, 9)), "PGRST100", "nxr"),
    "adj": ("countries", lambda q: q.adj("population", (1, 9)), "PGRST100", "adj"),
    "range_gt": ("countries", lambda q: q.range_gt("population", (1, 9)), "PGRST100", "sr"),
    "range_gte": ("countries", lambda q: q.range_gte("population", (1, 9)), "PGRST100", "nxl"),
    "range_lt": ("countries", lambda q: q.range_lt("population", (1, 9)), "PGRST100", "sl"),
    "range_lte": ("countries", lambda q: q.range_lte("population", (1, 9)), "PGRST100", "nxr"),
    "range_adjacent": (
        "countries",
        lambda q: q.range_adjacent("population", (1, 9)),
        "PGRST100",
        "adj",
    ),
    "overlaps (range)": ("countries", lambda q: q.ov("population", "[1,9)"), "bad_filter", "ov"),
    "contains (null)": (
        "announcements",
        lambda q: q.contains("tags", [None]),
        "bad_filter",
        "NULL",
    ),
    "like on a number": (
        "countries",
        lambda q: q.like("population", "1%"),
        "bad_filter",
        "population",
    ),
    "eq null": ("countries", lambda q: q.eq("population", None), "bad_filter", "population"),
    "max_affected": ("countries", lambda q: q.max_affected(1), "PGRST122", "max-affected"),
    "strip_nulls": ("countries", lambda q: q.strip_nulls(), "PGRST107", "application/json"),
    "explain": ("countries", lambda q: q.explain(), "PGRST107", "application/json"),
    "explain (JSON)": (
        "countries",
        lambda q: q.explain(format="json"),
        "PGRST107",
        "application/json",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_requests_are_refused_with_a_message(
    client: SyncPostgrestClient, name: str
) -> None:
    path, ask, code, words = REFUSED[name]
    with pytest.raises(APIError) as caught:
        ask(client.from_(path).select("*")).execute()
    assert caught.value.code == code
    assert words in f"{caught.value.message} {caught.value.details} {caught.value.hint}"


def test_every_method_of_the_client_is_tried() -> None:
    """Fails if a newer client adds methods."""
    methods = {name for name in dir(SyncSelectRequestBuilder) if not name.startswith("_")}
    refused = {name.partition(" ")[0] for name in REFUSED}
    tried = {name.partition(" ")[0] for name in (*ON_COUNTRIES, *ON_NEWS)} | refused
    below = {"execute", "order", "offset", "range", "single", "maybe_single", "csv"}
    assert methods - tried == below


# Order, pages, forms


def test_order_of_the_client(client: SyncPostgrestClient) -> None:
    ask = client.from_("countries").select("code").limit(300)
    response: Any = (
        ask.order("capital", desc=True, nullsfirst=False).order("code", desc=True).execute()
    )
    expected = sorted(COUNTRIES, key=lambda c: str(c["code"]), reverse=True)
    expected.sort(key=lambda c: c["capital"] or "", reverse=True)
    assert [row["code"] for row in response.data] == [country["code"] for country in expected]


def test_limit_offset_and_range_of_the_client(client: SyncPostgrestClient) -> None:
    def table() -> Any:
        return client.from_("countries").select("code").order("code")

    codes = [{"code": code} for code in sorted(NAMES)]
    assert table().limit(3).execute().data == codes[:3]
    assert table().offset(5).limit(3).execute().data == codes[5:8]
    assert table().offset(200).execute().data == codes[200:300]
    assert table().range(10, 19).execute().data == codes[10:20]
    assert table().range(250, 400).execute().data == codes[250:]


@pytest.mark.parametrize("count", CountMethod)
@pytest.mark.parametrize("head", [False, True])
def test_counts_of_the_client(
    client: SyncPostgrestClient, count: CountMethod, *, head: bool
) -> None:
    ask = client.from_("countries").select("code", count=count, head=head).limit(10)
    answer = ask.eq("continent", "EU").execute()
    assert len(answer.data) == (0 if head else 10)
    assert answer.count is not None
    exact = sum(country["continent"] == "EU" for country in COUNTRIES)
    if count is not CountMethod.planned:
        assert answer.count == exact
    without = client.from_("countries").select("code").eq("code", "DE").execute()
    assert without.count is None


def test_one_object_of_the_client(client: SyncPostgrestClient) -> None:
    def countries_of(continent: str) -> Any:
        return client.from_("countries").select("code").eq("continent", continent)

    def germany() -> Any:
        return client.from_("countries").select("name").eq("code", "DE")

    assert germany().single().execute().data == {"name": "Germany"}
    oceania = sum(country["continent"] == "OC" for country in COUNTRIES)
    for continent, rows in (("XX", 0), ("OC", oceania)):
        with pytest.raises(APIError) as caught:
            countries_of(continent).single().execute()
        error = caught.value
        assert (error.code, error.message, error.details, error.hint) == (
            "PGRST116",
            "Cannot coerce the result to a single JSON object",
            f"The result contains {rows} rows",
            None,
        )
    assert countries_of("XX").maybe_single().execute() is None
    assert germany().maybe_single().execute().data == {"name": "Germany"}
    with pytest.raises(APIError, match="single JSON object"):
        countries_of("OC").maybe_single().execute()


def test_csv_of_the_client(client: SyncPostgrestClient) -> None:
    def table() -> Any:
        return client.from_("announcements").select("title,body,tags,expires_at").order("title")

    rows = list(csv.DictReader(io.StringIO(table().csv().execute().data, newline="")))
    documents = table().execute().data
    assert [json.loads(row.pop("tags")) for row in rows] == [row.pop("tags") for row in documents]
    assert rows == [{name: value or "" for name, value in row.items()} for row in documents]


# Related rows


def test_embedding_of_the_client(client: SyncPostgrestClient) -> None:
    biggest = sorted(CITIES, key=lambda c: -c["population"])
    request = client.from_("cities").select("name", "country(name)")
    answer = request.order("population", desc=True).limit(3).execute()
    assert answer.data == [
        {"name": city["name"], "country": {"name": NAMES[city["country_code"]]}}
        for city in biggest[:3]
    ]
    reverse = client.from_("countries").select("code, towns:cities(name)").in_("code", ["JP", "AQ"])
    reverse = reverse.order("population", desc=True, foreign_table="cities")
    reverse = reverse.range(1, 2, foreign_table="cities")
    japan = [{"name": city["name"]} for city in biggest if city["country_code"] == "JP"]
    assert reverse.order("code").execute().data == [
        {"code": "AQ", "towns": []},
        {"code": "JP", "towns": japan[1:3]},
    ]


def test_filters_on_related_rows_of_the_client(client: SyncPostgrestClient) -> None:
    def cities_in(*members: str) -> Any:
        return client.from_("cities").select("name", *members, count=CountMethod.exact).limit(500)

    europe = {country["code"] for country in COUNTRIES if country["continent"] == "EU"}
    inner = cities_in("country!inner(code)").eq("country.continent", "EU").execute()
    assert {row["country"]["code"] for row in inner.data} <= europe
    assert len(inner.data) == inner.count == sum(c["country_code"] in europe for c in CITIES)
    response = cities_in("country(code)").eq("country.continent", "EU").execute()
    assert response.count == len(CITIES)
    assert sum(row["country"] is not None for row in response.data) == inner.count

    large = client.from_("countries").select("code,cities!inner(name)").order("code")
    large = large.limit(2, foreign_table="cities").order("name", foreign_table="cities")
    large = large.or_("population.gt.15000000,name.eq.Berlin", reference_table="cities")
    assert large.execute().data == [
        {"code": code, "cities": [{"name": name} for name in sorted(names)[:2]]}
        for code, names in sorted(_grouped(CITIES).items())
    ]


def _grouped(rows: Sequence[Row]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row["population"] > 15_000_000 or row["name"] == "Berlin":
            groups.setdefault(row["country_code"], []).append(row["name"])
    return groups


def test_selection_of_the_client(client: SyncPostgrestClient) -> None:
    ask = client.from_("announcements").select(
        "headline:title", "first:tags->>0", "on:published_on"
    )
    assert ask.eq("title", "Roads").execute().data == [
        {"headline": "Roads", "first": "roads", "on": "2026-02-28"}
    ]


def test_an_error_of_the_client_has_all_its_members(client: SyncPostgrestClient) -> None:
    with pytest.raises(APIError) as caught:
        client.from_("cities").select("name,planet(name)").execute()
    error = caught.value
    assert error.code == "PGRST200"
    assert "planet" in (error.message or "")
    assert "country!country_code" in (error.hint or "")


def test_the_client_gets_the_reason_for_a_missing_answer(
    client: SyncPostgrestClient, stack: RunningStack
) -> None:
    with stack.replica_away(), pytest.raises(APIError) as caught:
        client.from_("cities").select("name").limit(77).retry(False).execute()
    assert caught.value.code == "unavailable"
    assert "Try again" in (caught.value.message or "")
