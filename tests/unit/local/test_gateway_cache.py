"""Cache keys, TTLs, the bound on memory, and answers that arrive too late."""

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlencode

from hypothesis import assume, given
from hypothesis import strategies as st

from local.gateway.cache import MAX_ANSWER_BYTES, Key, StageCache, build_cache_key
from local.gateway.deployed import CacheRule, Method, Parameter, RouteMatch
from local.gateway.messages import Answer, Incoming

QUERY = ("limit", "cursor")
HEADERS = ("x-view", "read-after")
PATH = ("key",)
KEY = tuple(
    [Parameter("querystring", name) for name in QUERY]
    + [Parameter("header", name) for name in HEADERS]
    + [Parameter("path", name) for name in PATH]
)
RULE = CacheRule(60, "resource", KEY)
METHOD = Method(
    resource_path="/items/{key}",
    http_method="GET",
    declared=frozenset(KEY),
    timeout_seconds=29,
    cache=RULE,
)

values = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=5)
header_values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=5)
declared = st.fixed_dictionaries(
    {"path": st.fixed_dictionaries(dict.fromkeys(PATH, values))},
    optional={
        "query": st.dictionaries(st.sampled_from(QUERY), values),
        "headers": st.dictionaries(st.sampled_from(HEADERS), header_values),
    },
)
undeclared = st.fixed_dictionaries(
    {
        "query": st.dictionaries(values.filter(lambda name: name not in QUERY), values),
        "headers": st.dictionaries(
            st.sampled_from(["accept", "authorization", "x-view-2", "limit"]), header_values
        ),
        "path": st.dictionaries(st.sampled_from(["other"]), values),
        "body": st.binary(max_size=5),
        "peer": st.sampled_from(["127.0.0.1", "10.0.0.1"]),
    }
)
Parts = Mapping[str, Mapping[str, str]]


def key_of(parts: Parts, rest: Mapping[str, object], *, upper: bool = False) -> Key:
    query = {**_dict(rest.get("query")), **_dict(parts.get("query"))}
    headers = {**_dict(rest.get("headers")), **_dict(parts.get("headers"))}
    request = Incoming.parse(
        "GET",
        f"/v1/items/x?{urlencode(query)}",
        [(name.upper() if upper else name, value) for name, value in headers.items()],
        peer=str(rest.get("peer", "127.0.0.1")),
    )
    request = replace(request, body=bytes(rest.get("body", b"")))  # type: ignore[call-overload]
    path = {**_dict(rest.get("path")), **parts["path"]}
    return build_cache_key(RULE, RouteMatch(METHOD, path), request)


def _dict(value: object) -> dict[str, str]:
    return dict(value) if isinstance(value, dict) else {}


def changed(parts: Parts, part: Parameter, value: str | None) -> Parts:
    place = {"querystring": "query", "header": "headers", "path": "path"}[part.location]
    other = {name: dict(values) for name, values in normal(parts).items()}
    other[place].pop(part.name, None)
    if value is not None:
        other[place][part.name] = value
    return other


def normal(parts: Parts) -> Parts:
    return {place: dict(parts.get(place, {})) for place in ("path", "query", "headers")}


@given(declared, st.sampled_from(KEY), st.none() | values, undeclared)
def test_requests_that_differ_in_a_declared_part_never_share_an_entry(
    one: Parts, part: Parameter, value: str | None, rest: Mapping[str, object]
) -> None:
    """The other request has another value, or lacks the part."""
    if part.location == "header":
        assume(value is None or (value.isascii() and " " not in value))
    other = changed(one, part, value)
    assume(normal(one) != other)
    assert key_of(one, rest) != key_of(other, rest)


@given(declared, undeclared, undeclared)
def test_requests_that_differ_in_undeclared_parts_only_always_share_one(
    parts: Parts, one: Mapping[str, object], other: Mapping[str, object]
) -> None:
    assert key_of(parts, one) == key_of(parts, other, upper=True)


def test_the_last_value_of_a_repeated_query_parameter_counts() -> None:
    request = Incoming.parse("GET", "/v1/items/x?limit=1&limit=2", [], peer="")
    single = Incoming.parse("GET", "/v1/items/x?limit=2", [], peer="")
    route_match = RouteMatch(METHOD, {"key": "x"})
    assert build_cache_key(RULE, route_match, request) == build_cache_key(RULE, route_match, single)


def test_methods_share_entries_only_where_they_share_the_namespace() -> None:
    request = Incoming.parse("GET", "/v1/items/x", [], peer="")
    route_match = RouteMatch(METHOD, {"key": "x"})
    other = replace(RULE, namespace="other")
    assert build_cache_key(RULE, route_match, request) != build_cache_key(
        other, route_match, request
    )
    assert build_cache_key(RULE, route_match, request) == build_cache_key(
        replace(RULE), route_match, request
    )


def answer(body: bytes = b"answer", status: int = 200) -> Answer:
    return Answer(status, (("Content-Type", "text/plain"),), body)


def key(name: str) -> Key:
    return ("resource", "GET", ((Parameter("path", "key"), name),))


def filled(cache: StageCache, name: str, *, now: float = 0, ttl: float = 60) -> bool:
    return cache.store(
        cache.count_miss(key(name), now=now), answer(name.encode()), ttl_seconds=ttl, now=now
    )


def test_an_entry_is_served_up_to_its_ttl_and_not_at_it() -> None:
    cache = StageCache(max_bytes=10_000)
    filled(cache, "a", now=100, ttl=60)
    assert cache.get(key("a"), now=159.999) is not None
    assert cache.get(key("a"), now=160) is None
    assert cache.read_stats().entries == 0


def test_the_ttl_counts_from_the_arrival_of_the_answer() -> None:
    cache = StageCache(max_bytes=10_000)
    ticket = cache.count_miss(key("a"), now=0)
    cache.store(ticket, answer(), ttl_seconds=10, now=25)
    assert cache.get(key("a"), now=34) is not None
    assert cache.get(key("a"), now=35) is None


def test_an_answer_requested_before_a_flush_is_not_kept() -> None:
    cache = StageCache(max_bytes=10_000)
    ticket = cache.count_miss(key("a"), now=0)
    cache.flush()
    assert not cache.store(ticket, answer(), ttl_seconds=60, now=1)
    assert cache.get(key("a"), now=1) is None


def test_a_slow_answer_does_not_replace_an_answer_requested_later() -> None:
    cache = StageCache(max_bytes=10_000)
    slow, fast = cache.count_miss(key("a"), now=0), cache.count_miss(key("a"), now=1)
    assert cache.store(fast, answer(b"new"), ttl_seconds=60, now=2)
    assert not cache.store(slow, answer(b"old"), ttl_seconds=60, now=3)
    kept = cache.get(key("a"), now=3)
    assert kept is not None
    assert kept.body == b"new"


def test_a_refresh_replaces_the_entry() -> None:
    cache = StageCache(max_bytes=10_000)
    filled(cache, "a", now=0)
    ticket = cache.count_miss(key("a"), now=1)
    assert cache.store(ticket, answer(b"fresh"), ttl_seconds=60, now=2)
    kept = cache.get(key("a"), now=61)
    assert kept is not None
    assert kept.body == b"fresh"


def test_the_entry_that_was_not_used_for_longest_goes_first() -> None:
    cache = StageCache(max_bytes=3 * 1200)
    for name in "abc":
        filled(cache, name)
    assert cache.get(key("a"), now=1) is not None
    filled(cache, "d")
    assert [cache.get(key(name), now=1) is not None for name in "abcd"] == [True, False, True, True]
    assert cache.read_stats().evictions == 1


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3000)), max_size=40))
def test_the_bound_holds_and_the_bytes_are_those_of_the_entries(
    stored: list[tuple[str, int]],
) -> None:
    cache = StageCache(max_bytes=8000)
    for now, (name, size) in enumerate(stored):
        ticket = cache.count_miss(key(name), now=now)
        cache.store(ticket, answer(b"x" * size), ttl_seconds=15, now=now)
        cache.get(key("a"), now=now)
        assert cache.read_stats().bytes <= 8000
        assert (cache.read_stats().bytes == 0) == (cache.read_stats().entries == 0)
    for name in "abcdef":
        cache.get(key(name), now=1_000_000)
    assert (cache.read_stats().entries, cache.read_stats().bytes) == (0, 0)


def test_an_answer_above_the_limit_of_aws_or_of_the_cache_is_not_kept() -> None:
    largest = MAX_ANSWER_BYTES - len("Content-Type") - len("text/plain")
    for max_bytes, size, is_kept in (
        (4 * MAX_ANSWER_BYTES, largest, True),
        (4 * MAX_ANSWER_BYTES, largest + 1, False),
        (1000, 10, False),
    ):
        cache = StageCache(max_bytes=max_bytes)
        ticket = cache.count_miss(key("a"), now=0)
        assert cache.store(ticket, answer(b"x" * size), ttl_seconds=60, now=0) == is_kept
        assert cache.read_stats().entries == is_kept


def test_hits_and_misses_are_counted() -> None:
    cache = StageCache(max_bytes=10_000)
    filled(cache, "a")
    for _ in range(3):
        cache.get(key("a"), now=1)
    assert cache.get(key("b"), now=1) is None
    stats = cache.read_stats()
    assert (stats.hits, stats.misses, stats.entries) == (3, 1, 1)
