"""Conditions of writes: `If-Match`, filters on fields, and members of operations."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field

from forebay.conditional import build_item_tag, make_state_tag
from forebay.conditions import MAX_COMPARISONS, MAX_VALUES, Condition, PreparedCondition
from forebay.ids import IdSource, accepted_ms
from forebay.resource import Key, Resource
from tests.fixtures.api import NOW_MS, WriteBench, document
from tests.fixtures.commands import CITY
from tests.unit.write.test_patches import bench_of

ID = "0199f0c2-0000-7000-8000-000000000000"
OTHER_ID = "0199f0c2-0000-7000-8000-000000000002"
#: Of a status.
PATH = f"/v1/cities/5/commands/{ID}"
PATCHED = make_state_tag(ID, {"population": OTHER_ID})
TAG = build_item_tag(ID, "application/json", "{}")
PATCHED_TAG = build_item_tag(PATCHED, "application/json", "{}")
#: Greater than the ids that the bench's clock gives.
AHEAD_ID = IdSource(lambda: NOW_MS + 60_000).make(create=False)
FUTURE_ID = IdSource(lambda: NOW_MS + 3_600_000).make(create=False)


class Thing(Resource, path="things"):
    """A resource with a field of each kind that can be compared."""

    number: Annotated[int, Key()]
    name: Annotated[str, Field(max_length=10)]
    stock: int
    price: Annotated[Decimal, Field(max_digits=20, decimal_places=2)]
    weight: float
    sold: bool
    day: dt.date
    at: dt.datetime | None
    data: dict[str, Any]


def send(bench: WriteBench, method: str, *, content: Any = None, **query: str | list[str]) -> Any:
    """Send a write with filters."""
    lists = {name: [text] if isinstance(text, str) else text for name, text in query.items()}
    return bench.app.handle({
        "resource": "/things",
        "path": "/things",
        "httpMethod": method,
        "headers": {"Content-Type": "application/json"},
        "multiValueQueryStringParameters": lists,
        "body": None if content is None else json.dumps(content),
    })  # fmt: skip


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("header", "match"),
    [
        ("*", ["*"]),
        (TAG, [ID]),
        (f"W/{TAG}", [ID]),
        (f'"{ID}"', [ID]),
        (ID, [ID]),
        (f"/v1/cities/5/commands/{ID}", [ID]),
        (PATCHED_TAG, [PATCHED]),
        (f'"{PATCHED}"', [PATCHED]),
        (PATCHED, [PATCHED]),
        (PATCHED_TAG.strip('"'), [PATCHED]),
        (f'{TAG}, "{OTHER_ID}" ,W/{TAG}', [ID, OTHER_ID]),
        (f",{TAG},", [ID]),
    ],
)
def test_if_match_is_the_condition_of_a_write(method: str, header: str, match: list[str]) -> None:
    bench = WriteBench()
    content = {"PUT": CITY, "PATCH": {"population": 5}, "DELETE": None}[method]
    answer = bench.send(method, "/cities/{key}", content, key="5", If_Match=header)
    assert answer.status == 202, answer.body
    (command,) = bench.sink.commands
    assert command.condition is not None
    assert Condition.of_json(command.condition).match == tuple(match)
    condition = dict(command.condition)
    assert condition.pop("after", None) == (match if "/commands/" in header else None)
    assert condition == {"match": match}


def test_several_headers_are_one_list() -> None:
    bench = WriteBench()
    request = {
        "resource": "/cities/{key}",
        "path": "/cities/5",
        "httpMethod": "DELETE",
        "pathParameters": {"key": "5"},
        "headers": {"if-match": f'"{OTHER_ID}"'},
        "multiValueHeaders": {"If-Match": [TAG, f'"{OTHER_ID}"']},
    }
    assert bench.app.handle(request).status == 202
    (command,) = bench.sink.commands
    assert command.condition == {"match": [ID, OTHER_ID]}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_conditional_write_is_newer_than_every_version_that_it_names(method: str) -> None:
    bench = WriteBench()
    content = {"PUT": CITY, "PATCH": {"population": 5}, "DELETE": None}[method]
    patched = make_state_tag(ID, {"population": AHEAD_ID})
    tags = f'"{ID}", "{patched}"'
    assert bench.send(method, "/cities/{key}", content, key="5", If_Match=tags).status == 202
    assert bench.sink.commands[0].id > AHEAD_ID


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_write_without_a_condition_has_none(method: str) -> None:
    bench = WriteBench()
    content = {"PUT": CITY, "PATCH": {"population": 5}, "DELETE": None}[method]
    bench.send(method, "/cities/{key}", content, key="5", Read_After=ID)
    assert bench.sink.commands[0].condition is None
    assert b'"if"' not in bench.sink.taken[0]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("PUT", "/cities/{key}", {"If_Match": "*", "If_None_Match": "*"}),
        ("PUT", "/cities/{key}", {"If_Match": TAG, "If_None_Match": "*"}),
        ("POST", "/cities", {"If_Match": TAG}),
        ("POST", "/commands", {"If_Match": TAG}),
        ("PATCH", "/cities/{key}", {"If_Match": ", ".join([f'"{ID}"', '"x"'])}),
        ("PATCH", "/cities/{key}", {"If_None_Match": "*"}),
        ("DELETE", "/cities/{key}", {"If_None_Match": "*"}),
        ("PUT", "/cities/{key}", {"If_None_Match": TAG}),
        ("POST", "/cities", {"If_None_Match": TAG}),
        ("POST", "/commands", {"If_None_Match": "*"}),
    ],
)
def test_a_condition_that_can_never_be_checked_is_400_and_not_ignored(
    method: str, path: str, headers: Mapping[str, str]
) -> None:
    bench = WriteBench()
    answer = bench.send(method, path, CITY, key="5" if "{key}" in path else None, **headers)
    assert (answer.status, document(answer)["code"]) == (400, "bad_header")
    assert bench.sink.taken == []


def test_a_condition_has_at_most_50_tags_and_comparisons() -> None:
    bench = WriteBench()
    ids = [f"0199f0c2-0000-7000-8000-{number:012}" for number in range(MAX_COMPARISONS + 1)]
    for count, status in ((MAX_COMPARISONS, 202), (MAX_COMPARISONS + 1, 400)):
        tags = ", ".join(f'"{id_}"' for id_ in ids[:count])
        answer = bench.send("DELETE", "/cities/{key}", key="5", If_Match=tags)
        assert answer.status == status


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("name", "text", "comparison"),
    [
        ("name", "eq.a,b", ["eq", "a,b"]),
        ("name", 'in.("a,b",c)', ["in", ["a,b", "c"]]),
        ("name", "neq.", ["neq", ""]),
        ("name", "eq.null", ["eq", "null"]),
        ("stock", "gte.5", ["gte", 5]),
        ("stock", "eq.5.0", ["eq", 5]),
        ("stock", "in.(1,2)", ["in", [1, 2]]),
        ("price", "lt.12345678901234567.89", ["lt", "12345678901234567.89"]),
        ("price", "in.(1.50)", ["in", ["1.50"]]),
        ("weight", "gt.1.5", ["gt", 1.5]),
        ("sold", "eq.true", ["eq", True]),
        ("sold", "neq.f", ["neq", False]),
        ("day", "lte.2026-02-28", ["lte", "2026-02-28"]),
        ("at", "gt.2026-01-01T01:00:00+01:00", ["gt", "2026-01-01T00:00:00Z"]),
        ("at", "is.null", ["is", None]),
        ("data", "is.null", ["is", None]),
    ],
)
def test_filters_on_fields_are_the_condition_with_values_as_archived(
    method: str, name: str, text: str, comparison: list[Any]
) -> None:
    bench = bench_of(Thing.spec_)
    answer = send(bench, method, content={"name": "x"}, number="eq.7", **{name: text})
    assert answer.status == 202, answer.body
    (command,) = bench.sink.commands
    assert command.key == 7
    assert command.condition == {"where": [[name, *comparison]]}
    condition = Condition.of_json(command.condition)
    assert condition.find_fault(Thing.spec_) is None


def test_all_filters_are_part_of_the_condition_of_each_item() -> None:
    bench = bench_of(Thing.spec_)
    answer = send(
        bench,
        "PATCH",
        content={"sold": True},
        number="in.(7,8)",
        stock=["gte.1", "lt.9"],
        name="eq.x",
    )
    assert answer.status == 207
    where = [["name", "eq", "x"], ["stock", "gte", 1], ["stock", "lt", 9]]
    assert [(c.op, c.key, c.body, c.condition) for c in bench.sink.commands] == [
        ("patch", key, {"sold": True}, {"where": where}) for key in (7, 8)
    ]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("query", "code", "word"),
    [
        ({}, "bad_filter", "number=eq"),
        ({"name": "eq.x"}, "bad_filter", "buffered"),
        ({"number": "gt.7"}, "bad_filter", "number=eq"),
        ({"number": "eq.7", "name": "like.x*"}, "PGRST127", "is.null"),
        ({"number": "eq.7", "name": "not.eq.x"}, "PGRST127", "neq"),
        ({"number": "eq.7", "name": "isdistinct.x"}, "PGRST127", "neq"),
        ({"number": "eq.7", "stock": "eq(any).{1,2}"}, "PGRST127", "in"),
        ({"number": "eq.7", "at": "is.not_null"}, "PGRST127", "is.null"),
        ({"number": "eq.7", "at": "not.is.null"}, "PGRST127", "is.null"),
        ({"number": "eq.7", "sold": "is.true"}, "PGRST127", "is.null"),
        ({"number": "eq.7", "data": "eq.{}"}, "PGRST127", "is.null"),
        ({"number": "eq.7", "data": "cs.{}"}, "PGRST127", "is.null"),
        ({"number": "eq.7", "stock": "eq.x"}, "bad_filter", "integer"),
        ({"number": "eq.7", "sold": "gt.maybe"}, "bad_filter", "boolean"),
        ({"number": "eq.7", "stock": "5"}, "PGRST100", "eq.5"),
        ({"number": "eq.7", "stock": "in.(1"}, "PGRST100", "expected"),
        ({"number": "eq.7", "name": "eq.a\x00"}, "PGRST100", "NUL"),
        ({"number": "eq.7", "name": "eq.\ud800"}, "PGRST100", "Unicode"),
        ({"number": "eq.7", "or": "(name.eq.x)"}, "unknown_parameter", "all of them"),
        ({"number": "eq.7", "not.and": "(name.eq.x)"}, "unknown_parameter", "all of them"),
        ({"number": "eq.7", "data->a": "eq.x"}, "unknown_parameter", "data->a"),
        ({"number": "eq.7", "limit": "1"}, "unknown_parameter", "limit"),
    ],
)
def test_an_unsupported_filter_is_400_with_the_possible_filters(
    method: str, query: dict[str, str], code: str, word: str
) -> None:
    bench = bench_of(Thing.spec_)
    answer = send(bench, method, content={"name": "x"}, **query)
    problem = document(answer)
    assert (answer.status, problem["code"]) == (400, code)
    assert word in f"{problem['detail']} {problem['hint']}"
    assert bench.sink.taken == []


@pytest.mark.parametrize("query", [{"name": "neq.a\ufffd"}, {"name": "in.(a,\ufffd)"}])
def test_a_condition_with_bytes_that_are_not_utf8_is_400(query: dict[str, str]) -> None:
    bench = bench_of(Thing.spec_)
    answer = send(bench, "DELETE", number="eq.7", **query)
    assert (answer.status, document(answer)["code"]) == (400, "not_utf8")
    assert bench.sink.taken == []


def test_a_condition_that_no_line_could_hold_is_400() -> None:
    bench = bench_of(Thing.spec_)
    values = ",".join(map(str, range(MAX_VALUES + 1)))
    answer = send(bench, "DELETE", number="eq.7", stock=f"in.({values})")
    assert (answer.status, document(answer)["code"]) == (400, "bad_filter")
    many = ["gt.1"] * (MAX_COMPARISONS + 1)
    assert send(bench, "DELETE", number="eq.7", stock=many).status == 400
    assert bench.sink.taken == []


def operate(bench: WriteBench, *operations: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results of operations on the things."""
    complete = [{"resource": "things", "key": 7, **operation} for operation in operations]
    answer = bench.send("POST", "/commands", complete)
    assert answer.status == 207, answer.body
    results: list[dict[str, Any]] = document(answer)["results"]
    return results


def test_operations_have_conditions() -> None:
    bench = bench_of(Thing.spec_)
    thing = {
        "name": "x",
        "stock": 1,
        "price": 1,
        "weight": 1.5,
        "sold": False,
        "data": {},
        "day": "2026-01-01",
        "at": None,
    }
    where = [["stock", "gte", 1], ["weight", "lt", 1.5], ["at", "is", None]]
    results = operate(
        bench,
        {"op": "patch", "body": {"stock": {"$increment": -1}}, "if": where},
        {"op": "put", "body": thing, "if_match": TAG},
        {"op": "delete", "if_match": [PATCHED, f"W/{TAG}"], "if": [["sold", "eq", True]]},
        {"op": "patch", "body": {"number": 7, "sold": True}, "if_match": "*"},
        {"op": "patch", "body": {"price": 0.1}, "if": [["price", "in", [12345678901234567.25, 1]]]},
    )
    assert [result["outcome"] for result in results] == ["accepted"] * 5, results
    made = [(c.op, {**(c.condition or {})}) for c in bench.sink.commands]
    for (_, condition), previous in zip(made[1:], bench.sink.commands, strict=False):
        assert condition.pop("after") == [previous.id]
    assert made == [
        ("patch", {"where": where}),
        ("put", {"match": [ID]}),
        ("delete", {"match": [PATCHED, ID], "where": [["sold", "eq", True]]}),
        ("patch", {"match": ["*"]}),
        ("patch", {"where": [["price", "in", ["1.2345678901234568e+16", 1]]]}),
    ]
    assert bench.sink.commands[0].body == {"stock": {"$increment": -1}}
    assert bench.sink.commands[4].body == {"price": "0.1"}


def test_a_number_in_the_condition_of_a_decimal_keeps_its_digits() -> None:
    bench = bench_of(Thing.spec_)
    text = (
        '[{"op":"delete","resource":"things","key":7,'
        '"if":[["price","lt",123456789012345678.91],["price","gt",-99999999999999999999]]}]'
    )
    assert bench.send("POST", "/commands", raw=text).status == 207
    (command,) = bench.sink.commands
    assert command.condition == {
        "where": [
            ["price", "lt", "123456789012345678.91"],
            ["price", "gt", "-99999999999999999999"],
        ]
    }


def test_a_number_in_the_condition_of_an_integer_has_every_spelling_of_an_item() -> None:
    bench = bench_of(Thing.spec_)
    text = (
        '[{"op":"delete","resource":"things","key":7,"if":[["stock","eq",5.0],["stock","lt",1e3],'
        '["stock","in",[-0.0,9223372036854775807.0]],["stock","neq",9007199254740993e0]]}]'
    )
    assert bench.send("POST", "/commands", raw=text).status == 207
    (command,) = bench.sink.commands
    assert json.dumps(command.condition) == json.dumps({
        "where": [
            ["stock", "eq", 5],
            ["stock", "lt", 1000],
            ["stock", "in", [0, 2**63 - 1]],
            ["stock", "neq", 2**53 + 1],
        ]
    })  # fmt: skip


def test_a_number_in_the_condition_of_a_float_has_the_spellings_of_an_item() -> None:
    bench = bench_of(Thing.spec_)
    large = 10**30
    (result,) = operate(bench, {"op": "delete", "if": [["weight", "lt", large]]})
    assert result["status"] == 202
    assert bench.sink.commands[0].condition == {"where": [["weight", "lt", 1e30]]}


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("weight", "9007199254740993.0"),
        ("weight", "1e-400"),
        ("weight", "3.14159265358979323846"),
        ("weight", "1" + "0" * 400),
        ("stock", "9223372036854775808.0"),
        ("stock", "1e300"),
        ("stock", "1e-9"),
    ],
)
def test_a_number_in_a_condition_is_refused_instead_of_rounded(field: str, number: str) -> None:
    bench = bench_of(Thing.spec_)
    text = f'[{{"op":"delete","resource":"things","key":7,"if":[["{field}","gt",{number}]]}}]'
    (result,) = document(bench.send("POST", "/commands", raw=text))["results"]
    assert result["status"] == 422
    assert result["problem"]["errors"][0]["pointer"] == "#/if"
    assert field in result["problem"]["errors"][0]["detail"]
    assert bench.sink.taken == []


@pytest.mark.parametrize(
    ("comparison", "values", "reason"),
    [
        (
            ["name", "eq", 'a"b'],
            {"name": None},
            r'name eq "a\"b" does not hold: the value was null',
        ),
        (["sold", "eq", True], {"sold": False}, "sold eq true does not hold: the value was false"),
        (["at", "is", None], {"at": "x"}, 'at is null does not hold: the value was "x"'),
        (["data", "is", None], {"data": {"é": [1]}}, 'the value was {"é": [1]}'),
        (["name", "in", ["\0"]], {"name": "x" * 999}, r'name in ["\u0000"] does not hold'),
    ],
)
def test_a_failed_comparison_names_values_as_json(
    comparison: list[Any], values: dict[str, Any], reason: str
) -> None:
    condition = PreparedCondition.of_json({"where": [comparison]}, Thing.spec_)
    failure = condition.find_failure(None, values)
    assert failure is not None
    assert reason in failure
    assert len(failure) < 500


def test_operations_after_one_with_a_condition_have_greater_ids() -> None:
    bench = bench_of(Thing.spec_)
    operate(
        bench,
        {"op": "delete"},
        {"op": "delete", "if_match": AHEAD_ID},
        {"op": "delete", "key": 8},
    )
    ids = [command.id for command in bench.sink.commands]
    assert accepted_ms(ids[0]) == NOW_MS
    assert [ids[0], AHEAD_ID, *ids[1:]] == sorted([AHEAD_ID, *ids])


@pytest.mark.parametrize(
    ("members", "pointers"),
    [
        ({"op": "create", "body": {}, "if": [["stock", "eq", 1]]}, ["#/if"]),
        ({"op": "create", "body": {}, "if_match": "*"}, ["#/if_match"]),
        ({"op": "patch"}, ["#/body"]),
        ({"op": "patch", "body": {}}, ["#/body"]),
        ({"op": "patch", "body": []}, ["#/body"]),
        ({"op": "patch", "body": {"stock": {"$increment": "x"}}}, ["#/body/stock"]),
        ({"if": []}, ["#/if"]),
        ({"if": {}}, ["#/if"]),
        ({"if": None}, ["#/if"]),
        ({"if": [["stock", "eq"]]}, ["#/if"]),
        ({"if": [["stock", "eq", {}]]}, ["#/if"]),
        ({"if": [["stock", "eq", [1]]]}, ["#/if"]),
        ({"if": [["stock", "in", 1]]}, ["#/if"]),
        ({"if": [["stock", "like", 1]]}, ["#/if"]),
        ({"if": [["stock", "eq", "1"]]}, ["#/if"]),
        ({"if": [["stock", "eq", 2**70]]}, ["#/if"]),
        ({"if": [["stock", "eq", 1.5]]}, ["#/if"]),
        ({"if": [["stock", "is", 1]]}, ["#/if"]),
        ({"if": [["stock", "eq", None]]}, ["#/if"]),
        ({"if": [["number", "eq", 7]]}, ["#/if"]),
        ({"if": [["bogus", "eq", 7]]}, ["#/if"]),
        ({"if": [[7, "eq", 7]]}, ["#/if"]),
        ({"if": [["data", "eq", "x"]]}, ["#/if"]),
        ({"if": [["at", "eq", "yesterday"]]}, ["#/if"]),
        ({"if": [["stock", "in", list(range(MAX_VALUES + 1))]]}, ["#/if"]),
        ({"if": [["stock", "gt", 1]] * (MAX_COMPARISONS + 1)}, ["#/if"]),
        ({"if_match": None}, ["#/if_match"]),
        ({"if_match": []}, ["#/if_match"]),
        ({"if_match": 5}, ["#/if_match"]),
        ({"if_match": "x"}, ["#/if_match"]),
        ({"if_match": ["*", ID]}, ["#/if_match"]),
        ({"if_match": [ID, 5]}, ["#/if_match"]),
        ({"if_match": FUTURE_ID}, ["#/if_match"]),
    ],
)
def test_an_invalid_condition_refuses_its_operation_only(
    members: dict[str, Any], pointers: list[str]
) -> None:
    bench = bench_of(Thing.spec_)
    refused, accepted = operate(bench, {"op": "delete", **members}, {"op": "delete"})
    assert refused["status"] == 422, refused
    assert [error["pointer"] for error in refused["problem"]["errors"]] == pointers
    assert accepted["status"] == 202
    assert len(bench.sink.taken) == 1
