"""The edge passes requests that the stage cache can key on, and names the fault of the others."""

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.gateway.deployed import Method, Parameter
from local.gateway.edge import find_refusal
from local.gateway.messages import Incoming
from tests.fixtures import edge_cases


def method(*declared: Parameter, http_method: str = "GET") -> Method:
    return Method(
        resource_path="/items",
        http_method=http_method,
        declared=frozenset(declared),
        timeout_seconds=29,
        cache=None,
    )


LIMIT, CURSOR = Parameter("querystring", "limit"), Parameter("querystring", "cursor")
LISTING = method(LIMIT, CURSOR, Parameter("header", "prefer"))


def code(found: Method, target: str, http_method: str = "GET") -> str | None:
    refused = find_refusal(found, Incoming.parse(http_method, target, [], peer=""))
    if refused is None:
        return None
    assert refused.status == 400
    assert refused.header("content-type") == "application/problem+json"
    return str(json.loads(refused.body)["code"])


@pytest.mark.parametrize(("target", "expected"), edge_cases.LISTING)
def test_only_declared_parameters_given_once_pass(target: str, expected: str | None) -> None:
    assert code(LISTING, target) == expected


def test_a_get_that_declares_nothing_has_no_query() -> None:
    assert code(method(), "/v1/items?a=1") == "unknown_parameter"
    assert code(method(), "/v1/items") is None


def test_a_write_is_checked_only_if_it_declares_anything() -> None:
    keyed = method(Parameter("path", "key"), http_method="PUT")
    assert code(keyed, "/v1/items?a=1", "PUT") == "unknown_parameter"
    assert code(method(http_method="POST"), "/v1/items?a=1&a=1", "POST") is None


@given(st.lists(st.tuples(st.sampled_from(["limit", "cursor", "x", "Limit"]), st.text(max_size=3))))
def test_only_requests_with_one_value_per_declared_name_pass(
    pairs: list[tuple[str, str]],
) -> None:
    names = [name for name, _ in pairs]
    passes = len(set(names)) == len(names) and set(names) <= {"limit", "cursor"}
    assert (code(LISTING, f"/v1/items?{urlencode(pairs)}") is None) == passes
