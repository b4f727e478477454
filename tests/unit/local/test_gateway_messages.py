"""Parsing of requests: complete, and without characters that a URI can't hold."""

import json

import pytest

from forebay.problem import Problem
from local.gateway.messages import Answer, Incoming, build_problem_answer, fold


def parsed(target: str) -> Incoming:
    return Incoming.parse("GET", target, [], peer="127.0.0.1")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/v1/items", "/v1/items", ()),
        ("/v1/items?", "/v1/items", ()),
        ("/v1/items?a=1&b=&c", "/v1/items", (("a", "1"), ("b", ""), ("c", ""))),
        ("/v1/items?a=1?2", "/v1/items", (("a", "1?2"),)),
        ("/v1/items?a=x;b=y", "/v1/items", (("a", "x;b=y"),)),
        ("/v1/items?a+b=%26+%C3%A4", "/v1/items", (("a b", "& ä"),)),
        ("/v1/a%2Fb%zz%", "/v1/a%2Fb%zz%", ()),
        ('/v1/"{ä', "/v1/%22%7B%C3%A4", ()),
        ("/v1/\udcff", "/v1/%FF", ()),
    ],
)
def test_a_target_is_split_and_keeps_its_encoding(
    target: str, path: str, query: tuple[tuple[str, str], ...]
) -> None:
    assert (parsed(target).path, parsed(target).query) == (path, query)


def test_repeated_headers_become_one_value_each_in_its_own_way() -> None:
    folded = fold([("Prefer", "a"), ("prefer", "b"), ("Cookie", "c=1"), ("COOKIE", "d=2")])
    assert folded == {"prefer": "a, b", "cookie": "c=1; d=2"}


def test_header_bytes_that_are_not_text_are_replaced_on_arrival() -> None:
    assert fold([("a", "\udcff"), ("b", "ä")]) == {"a": "\N{REPLACEMENT CHARACTER}", "b": "ä"}


def test_header_bytes_count_names_and_values_also_of_headers_that_stay_behind() -> None:
    request = Incoming.parse("GET", "/", [("ab", "cde"), ("x", ""), ("te", "x")], peer="")
    assert request.header_bytes == 9


@pytest.mark.parametrize("connection", ["read-after", "close, Read-After", "READ-AFTER ,,"])
def test_headers_named_by_connection_are_dropped(connection: str) -> None:
    headers = [("Read-After", "x"), ("Connection", connection), ("Prefer", "y"), ("Host", "z")]
    assert Incoming.parse("GET", "/", headers, peer="").headers == {"prefer": "y"}


def test_an_answers_headers_are_found_in_any_case() -> None:
    answer = Answer(
        200, (("Content-Type", "Text/Plain; charset=utf-8"), ("A", "1"), ("a", "2")), b""
    )
    assert answer.header("content-TYPE") == "Text/Plain; charset=utf-8"
    assert answer.header("a") == "1"
    assert answer.without(frozenset({"a"})).header("A") is None


def test_a_problem_has_the_members_of_the_catalogue_and_its_own() -> None:
    problem = Problem("unavailable", "Not now.", headers={"Retry-After": "5"})
    answer = build_problem_answer(problem, "/v1/items", since="today")
    assert (answer.status, answer.header("content-type")) == (503, "application/problem+json")
    assert (answer.header("retry-after"), answer.header("cache-control")) == ("5", "no-store")
    body = json.loads(answer.body)
    assert body["code"] == "unavailable"
    assert body["instance"] == "/v1/items"
    assert body["since"] == "today"
