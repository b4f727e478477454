"""Writes as PostgREST's clients send them: what becomes of each, and what the client gets."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from postgrest import APIError, SyncPostgrestClient

from tests.fixtures.api import RecordingStore, WriteBench, document, event
from tests.fixtures.commands import CITY

ITEM = {"geonameid": 5, **CITY}
OTHER = {**ITEM, "geonameid": 6}
NEWS = {"title": "t", "body": "b", "published_on": "2026-01-01"}


def connect(bench: WriteBench) -> SyncPostgrestClient:
    """PostgREST's own client; the write app answers its requests."""

    def answer(request: httpx.Request) -> httpx.Response:
        proxy_event = event(
            request.method,
            request.url.path.removeprefix("/v1"),
            query=dict(request.url.params),
            headers=dict(request.headers),
            body=request.content.decode() or None,
        )
        response = bench.app.handle(proxy_event)
        return httpx.Response(
            response.status, headers=dict(response.headers), content=response.body.encode()
        )

    session = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://forebay.test/v1")
    return SyncPostgrestClient("http://forebay.test/v1", http_client=session)


def keys(bench: WriteBench) -> list[tuple[str, object]]:
    return [(command.op, command.key) for command in bench.sink.commands]


@pytest.mark.parametrize("content", [ITEM, [ITEM, OTHER]])
def test_an_insert_creates_and_returns_a_result_for_each_row(content: Any) -> None:
    bench = WriteBench()
    data: Any = connect(bench).from_("cities").insert(content).execute().data
    expected = [5, 6] if isinstance(content, list) else [5]
    assert [result["key"] for result in data] == expected
    assert [result["command_id"] for result in data] == [c.id for c in bench.sink.commands]
    assert {result["status"] for result in data} == {"pending"}
    assert keys(bench) == [("create", key) for key in expected]


@pytest.mark.parametrize("content", [ITEM, [ITEM, OTHER]])
@pytest.mark.parametrize("conflict", ["", "geonameid", '"geonameid"'])
def test_an_upsert_puts(content: Any, conflict: str) -> None:
    bench = WriteBench()
    connect(bench).from_("cities").upsert(content, on_conflict=conflict).execute()
    expected = [5, 6] if isinstance(content, list) else [5]
    assert keys(bench) == [("put", key) for key in expected]
    assert bench.sink.commands[0].body == CITY


def test_an_upsert_that_ignores_duplicates_creates() -> None:
    bench = WriteBench()
    connect(bench).from_("cities").upsert(ITEM, ignore_duplicates=True).execute()
    assert keys(bench) == [("create", 5)]


def test_an_upsert_of_rows_whose_key_the_server_makes_puts_those_that_have_one() -> None:
    bench = WriteBench()
    key = "7b4e0d6e-8a34-4d3c-9a51-0d8a3f1f0c11"
    connect(bench).from_("announcements").upsert([NEWS, {**NEWS, "id": key}]).execute()
    (create, put) = bench.sink.commands
    assert (create.op, put.op, put.key) == ("create", "put", key)


@pytest.mark.parametrize("returning", ["minimal", "representation"])
def test_a_refused_row_refuses_the_whole_insert_as_no_client_looks_for_it(returning: Any) -> None:
    bench = WriteBench()
    rows = [ITEM, {**OTHER, "population": "many"}]
    with pytest.raises(APIError) as refused:
        connect(bench).from_("cities").insert(rows, returning=returning).execute()
    assert "item 1" in str(refused.value.message)
    assert "#/population" in str(refused.value.details)
    assert bench.sink.taken == []


def test_a_part_that_is_not_accepted_fails_the_whole_insert() -> None:
    bench = WriteBench(store=RecordingStore(down=True))
    bench.sink.refuse = {1}
    with pytest.raises(APIError) as failed:
        connect(bench).from_("cities").insert([ITEM, OTHER]).execute()
    assert "acknowledged" in str(failed.value.message)


@pytest.mark.parametrize("content", [ITEM, [ITEM, OTHER]])
def test_a_minimal_answer_is_empty(content: Any) -> None:
    bench = WriteBench()
    sent = bench.send("POST", "/cities", content, Prefer="return=minimal")
    assert (sent.status, sent.body) == (202, "")
    assert sent.headers["Preference-Applied"] == "return=minimal"
    assert ("Location" in sent.headers) is isinstance(content, dict)


def test_a_row_that_is_requested_alone_is_an_object() -> None:
    bench = WriteBench()
    accept = {"Prefer": "return=representation", "Accept": "application/vnd.pgrst.object+json"}
    for content in (ITEM, [ITEM]):
        assert document(bench.send("POST", "/cities", content, **accept))["key"] == 5
    many = bench.send("POST", "/cities", [ITEM, OTHER], **accept)
    assert (many.status, document(many)["code"]) == (406, "PGRST116")
    assert len(bench.sink.taken) == 2


def post(bench: WriteBench, content: Any, **query: str) -> Any:
    request = event(
        "POST",
        "/cities",
        query=query,
        headers={"content-type": "application/json"},
        body=json.dumps(content),
    )
    return bench.app.handle(request)


def test_only_the_members_in_columns_count() -> None:
    bench = WriteBench()
    names = ",".join(f'"{name}"' for name in ITEM)
    for content in ({**ITEM, "x": 1}, [{**ITEM, "x": 1}]):
        assert post(bench, content, columns=names).status in {202, 207}
    assert [command.body for command in bench.sink.commands] == [CITY, CITY]
    without = ", ".join(name for name in ITEM if name != "population")
    problem = document(post(bench, ITEM, columns=without))
    assert problem["errors"] == [{"pointer": "#/population", "detail": "Field required"}]


@pytest.mark.parametrize(
    ("query", "code", "word"),
    [
        ({"columns": "geonameid,naem"}, "PGRST204", "'naem'"),
        ({"columns": 'geonameid,"na'}, "PGRST100", "character 11"),
        ({"columns": 'geonameid,"name"x'}, "PGRST100", "character 11"),
        ({"on_conflict": "name"}, "PGRST127", "geonameid"),
        ({"on_conflict": "geonameid,name"}, "PGRST127", "geonameid"),
        ({"on_conflict": ""}, "PGRST127", "geonameid"),
        ({"select": "*"}, "unknown_parameter", "'select'"),
        ({"limit": "1", "columns": "name"}, "unknown_parameter", "'limit'"),
    ],
)
def test_a_parameter_that_a_write_cannot_honour_is_refused(
    query: dict[str, str], code: str, word: str
) -> None:
    bench = WriteBench()
    problem = document(post(bench, [ITEM], **query))
    assert (problem["status"], problem["code"]) == (400, code)
    assert word in problem["detail"]
    assert problem["message"] == problem["detail"]
    assert bench.sink.taken == []


def test_a_repeated_parameter_is_refused() -> None:
    bench = WriteBench()
    request = event("POST", "/cities", headers={"content-type": "application/json"}, body="[]")
    request["multiValueQueryStringParameters"] = {"columns": ["name", "population"]}
    assert document(bench.app.handle(request))["code"] == "repeated_parameter"


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_write_of_one_address_has_no_parameters(method: str) -> None:
    request = event(
        method,
        "/cities/{key}",
        path={"key": "5"},
        query={"columns": "name"},
        headers={"content-type": "application/json"},
        body=json.dumps(CITY),
    )
    problem = document(WriteBench().app.handle(request))
    assert (problem["code"], problem["status"]) == ("unknown_parameter", 400)
    assert "POST" in problem["hint"]


def test_every_problem_has_the_members_that_postgrests_clients_show() -> None:
    bench = WriteBench()
    invalid = document(bench.send("POST", "/cities", {**ITEM, "population": "many"}))
    assert invalid["message"] == invalid["detail"]
    assert "#/population" in invalid["details"]
    assert invalid["hint"] is None
    (result,) = document(bench.send("POST", "/cities", [{}]))["results"]
    assert result["problem"]["message"] == result["problem"]["detail"]


@pytest.mark.parametrize("returning", ["minimal", "representation"])
def test_a_delete_by_the_key_deletes(returning: Any) -> None:
    bench = WriteBench()
    table = connect(bench).from_("cities")
    one: Any = table.delete(returning=returning).eq("geonameid", 5).execute().data
    many: Any = table.delete(returning=returning).in_("geonameid", [7, 6, 7]).execute().data
    assert keys(bench) == [("delete", 5), ("delete", 7), ("delete", 6)]
    expected = ([5], [7, 6]) if returning == "representation" else ([], [])
    assert ([r["key"] for r in one], [r["key"] for r in many]) == expected


@pytest.mark.parametrize("returning", ["minimal", "representation"])
def test_an_update_by_the_key_patches(returning: Any) -> None:
    bench = WriteBench()
    table = connect(bench).from_("cities")
    change = {"population": 5}
    one: Any = table.update(change, returning=returning).eq("geonameid", 5).execute().data
    many: Any = table.update(change, returning=returning).in_("geonameid", [7, 6]).execute().data
    assert keys(bench) == [("patch", 5), ("patch", 7), ("patch", 6)]
    assert {command.condition for command in bench.sink.commands} == {None}
    assert [command.body for command in bench.sink.commands] == [change] * 3
    expected = ([5], [7, 6]) if returning == "representation" else ([], [])
    assert ([r["key"] for r in one], [r["key"] for r in many]) == expected


def test_further_filters_of_an_update_or_a_delete_are_its_condition() -> None:
    bench = WriteBench()
    table = connect(bench).from_("cities")
    table.update({"population": 5}).eq("geonameid", 5).eq("name", "Aachen").execute()
    table.update({"population": {"$increment": -1}}).eq("geonameid", 5).gte(
        "population", 1
    ).execute()
    table.delete().eq("geonameid", 5).in_("country_code", ["DE", "FR"]).is_("name", None).execute()
    assert [(command.op, command.condition) for command in bench.sink.commands] == [
        ("patch", {"where": [["name", "eq", "Aachen"]]}),
        ("patch", {"where": [["population", "gte", 1]]}),
        ("delete", {"where": [["name", "is", None], ["country_code", "in", ["DE", "FR"]]]}),
    ]


@pytest.mark.parametrize("content", [{}, {"geonameid": 6, "population": 5}, {"population": "many"}])
def test_an_update_that_is_refused_is_an_error_with_a_message(content: Any) -> None:
    bench = WriteBench()
    with pytest.raises(APIError) as refused:
        connect(bench).from_("cities").update(content).eq("geonameid", 5).execute()
    assert refused.value.message
    assert bench.sink.taken == []


def test_an_update_without_the_key_is_an_error_with_the_correct_form() -> None:
    bench = WriteBench()
    with pytest.raises(APIError) as refused:
        connect(bench).from_("cities").update({"population": 5}).eq("name", "Aachen").execute()
    assert "geonameid=eq" in str(refused.value.message)
    assert "buffered" in str(refused.value.hint)
    assert bench.sink.taken == []


def test_an_update_whose_body_has_the_key_of_one_item_is_refused_for_the_others() -> None:
    bench = WriteBench()
    request = event(
        "PATCH",
        "/cities",
        query={"geonameid": "in.(5,6)"},
        headers={"content-type": "application/json"},
        body=json.dumps({"geonameid": 5, "population": 1}),
    )
    answer = bench.app.handle(request)
    assert [result["status"] for result in document(answer)["results"]] == [202, 422]
    assert keys(bench) == [("patch", 5)]


def delete(bench: WriteBench, resource: str = "cities", **query: str) -> Any:
    return bench.app.handle(event("DELETE", f"/{resource}", query=query))


def test_a_delete_of_one_key_is_202_and_of_a_list_207() -> None:
    bench = WriteBench()
    one = delete(bench, geonameid="eq.5")
    assert (one.status, one.headers["Content-Location"]) == (202, "/v1/cities/5")
    many = delete(bench, geonameid="in.(5)")
    assert many.status == 207
    assert [result["outcome"] for result in document(many)["results"]] == ["accepted"]


@pytest.mark.parametrize("text", ["eq.XK", "in.(XK)", 'in.("XK")', "in.(XK,XK)"])
def test_a_key_may_be_quoted_in_a_list(text: str) -> None:
    bench = WriteBench()
    assert delete(bench, "countries", code=text).status in {202, 207}
    assert keys(bench) == [("delete", "XK")]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({}, "bad_filter"),
        ({"geonameid": "gt.5"}, "bad_filter"),
        ({"geonameid": "not.eq.5"}, "bad_filter"),
        ({"geonameid": "not.in.(5,6)"}, "bad_filter"),
        ({"geonameid": "eq(any).{5,6}"}, "bad_filter"),
        ({"geonameid": "is.null"}, "bad_filter"),
        ({"geonameid": "eq.x"}, "bad_filter"),
        ({"geonameid": "eq.-1"}, "bad_key"),
        ({"geonameid": "5"}, "PGRST100"),
        ({"geonameid": "in.(5"}, "PGRST100"),
        ({"geonameid": "in.(5)x"}, "PGRST100"),
        ({"geonameid": "in.()"}, "empty_batch"),
        ({"geonameid": f"in.({','.join(map(str, range(1, 502)))})"}, "batch_too_large"),
        ({"population": "eq.0"}, "bad_filter"),
        ({"geonameid": "eq.5", "limit": "1"}, "unknown_parameter"),
        ({"or": "(geonameid.eq.5)"}, "unknown_parameter"),
    ],
)
def test_a_delete_that_does_not_name_its_items_is_refused(query: dict[str, str], code: str) -> None:
    bench = WriteBench()
    response = delete(bench, **query)
    assert (response.status // 100, document(response)["code"]) == (4, code)
    assert bench.sink.taken == []


def test_the_ids_of_a_list_of_deletes_rise() -> None:
    bench = WriteBench()
    request = event(
        "DELETE",
        "/cities",
        query={"geonameid": "in.(3,1,2)"},
        headers={"Read-After": bench.send("POST", "/cities", ITEM).headers["Location"]},
    )
    assert bench.app.handle(request).status == 207
    ids = [command.id for command in bench.sink.commands]
    assert ids == sorted(ids)
