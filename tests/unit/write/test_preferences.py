"""A preference that would change the effect of a write is honoured or refused, never ignored."""

from __future__ import annotations

import pytest

from forebay.http import Response
from tests.fixtures.api import WriteBench, document, event
from tests.fixtures.commands import CITY

ITEM = {"geonameid": 5, **CITY}
METHODS = ["POST", "PUT", "DELETE"]


def write(bench: WriteBench, method: str, prefer: str, **headers: str) -> Response:
    if method == "POST":
        return bench.send("POST", "/cities", ITEM, Prefer=prefer, **headers)
    content = None if method == "DELETE" else CITY
    return bench.send(method, "/cities/{key}", content, key="5", Prefer=prefer, **headers)


def assert_refused(bench: WriteBench, response: Response, *words: str) -> None:
    problem = document(response)
    assert (response.status, problem["code"]) == (400, "PGRST122"), problem
    for word in words:
        assert word in f"{problem['detail']} {problem['hint']}"
    # PostgREST's clients show `message`.
    assert problem["message"] == problem["detail"]
    assert bench.sink.taken == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "prefer",
    [
        "tx=rollback",
        "return=representation,tx=rollback",
        "TX=rollback",
        'tx="rollback"',
        "handling=lenient , tx = rollback;x=1",
        "tx=commit, tx=rollback",
        "handling=strict, tx=rollback",
    ],
)
def test_a_trial_is_refused_instead_of_applied(method: str, prefer: str) -> None:
    bench = WriteBench()
    assert_refused(bench, write(bench, method, prefer), "tx=rollback")


def test_a_resolution_on_put_is_accepted_only_if_it_names_replacement() -> None:
    bench = WriteBench()
    for prefer, headers in (
        ("resolution=ignore-duplicates", {}),
        ("resolution=merge-duplicates", {"If_None_Match": "*"}),
    ):
        assert_refused(bench, write(bench, "PUT", prefer, **headers), prefer, "If-None-Match: *")
    for prefer, headers in (
        ("resolution=merge-duplicates", {}),
        ("resolution=ignore-duplicates", {"If_None_Match": "*"}),
    ):
        response = write(bench, "PUT", f"handling=strict,{prefer}", **headers)
        assert response.status == 202
        assert prefer in response.headers["Preference-Applied"]


def test_a_post_that_never_overwrites_is_not_an_upsert() -> None:
    bench = WriteBench()
    header = {"If_None_Match": "*"}
    prefer = "resolution=merge-duplicates"
    assert_refused(bench, write(bench, "POST", prefer, **header), prefer, "If-None-Match: *")
    prefer = "resolution=ignore-duplicates"
    assert write(bench, "POST", prefer, **header).headers["Preference-Applied"] == prefer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "unknown",
    ["return=headers-only", "max-affected=1", "wait=5", "tx=maybe", "x", 'x="a, tx=rollback"'],
)
def test_an_unknown_preference_is_refused_where_handling_is_strict(
    method: str, unknown: str
) -> None:
    bench = WriteBench()
    refused = write(bench, method, f"{unknown}, handling=strict")
    assert_refused(bench, refused, unknown.partition("=")[0])
    assert write(bench, method, unknown).status == 202
    assert write(bench, method, f"handling=lenient, {unknown}, handling=strict").status == 202


@pytest.mark.parametrize("method", METHODS)
def test_applied_preferences_are_named(method: str) -> None:
    response = write(WriteBench(), method, "tx=commit, respond-async, handling=strict, tx=commit")
    assert response.status == 202
    assert response.headers["Preference-Applied"] == "tx=commit, respond-async, handling=strict"
    applied = write(WriteBench(), method, "return=representation").headers
    assert "Preference-Applied" not in applied, "the answer has no representation of the item"


def test_a_create_never_overwrites_so_ignoring_duplicates_is_honoured() -> None:
    bench = WriteBench()
    for content in (ITEM, [ITEM]):
        response = bench.send(
            "POST", "/cities", content, Prefer="resolution=ignore-duplicates,missing=default"
        )
        assert response.status == (207 if isinstance(content, list) else 202)
        assert (
            response.headers["Preference-Applied"]
            == "resolution=ignore-duplicates, missing=default"
        )


def test_each_of_several_headers_counts() -> None:
    """API Gateway passes the last header in `headers`, and all of them in `multiValueHeaders`."""
    bench = WriteBench()
    request = event("DELETE", "/cities/{key}", path={"key": "5"}, headers={"prefer": "x"})
    request["multiValueHeaders"] = {"prefer": ["tx=rollback", "x"]}
    assert_refused(bench, bench.app.handle(request), "tx=rollback")


def test_a_preference_that_is_far_too_long_is_quoted_in_part() -> None:
    response = write(WriteBench(), "POST", f"handling=strict,{'x' * 9000}")
    assert response.status == 400
    assert len(response.body) < 2000


def test_a_parameter_that_no_client_adds_by_itself_has_no_hint() -> None:
    bench = WriteBench()
    request = event("DELETE", "/cities/{key}", path={"key": "5"}, query={"dry_run": "1"})
    problem = document(bench.app.handle(request))
    assert problem["code"] == "unknown_parameter"
    assert problem["hint"] is None
