"""Dependencies of commands on earlier commands: `Read-After`, and operations of one request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebay.conditions import MAX_COMPARISONS, is_condition
from tests.fixtures.api import WriteBench
from tests.fixtures.commands import CITY
from tests.unit.write.test_conditions import ID, OTHER_ID, PATH, TAG, Thing
from tests.unit.write.test_patches import bench_of


def conditions(bench: WriteBench) -> list[Any]:
    return [command.condition for command in bench.sink.commands]


@pytest.mark.parametrize(
    ("header", "after"),
    [
        (ID, None),
        (TAG, None),
        (f"/v1/cities/5/commands/{ID}", [ID]),
        (f"/v1/cities/05/commands/{ID}", None),
        (f"https://api.example/v1/cities/5/commands/{ID}", [ID]),
        (f"/v1/cities/%35/commands/{ID}", [ID]),
        (f"/v1/cities/6/commands/{ID}", None),
        (f"/v1/countries/5/commands/{ID}", None),
    ],
)
def test_a_decided_command_depends_on_the_command_of_its_item_in_read_after(
    header: str, after: list[str] | None
) -> None:
    bench = WriteBench()
    change = {"population": {"$increment": 1}}
    bench.send("PATCH", "/cities/{key}", change, key="5", Read_After=header)
    bench.send("DELETE", "/cities/{key}", key="5", Read_After=header, If_Match=OTHER_ID)
    expected = {"match": [OTHER_ID]}
    assert conditions(bench) == (
        [{"after": after}, {**expected, "after": after}] if after else [None, expected]
    )


def test_a_plain_command_depends_on_nothing() -> None:
    bench = WriteBench()
    bench.send("PUT", "/cities/{key}", CITY, key="5", Read_After=PATH)
    bench.send("PATCH", "/cities/{key}", {"population": 1}, key="5", Read_After=PATH)
    assert conditions(bench) == [None, None]


def test_an_id_without_its_item_is_no_dependency_of_a_request_for_several_items() -> None:
    bench = bench_of(Thing.spec_)
    for header, expected in ((ID, [None, None]), (f"/v1/things/2/commands/{ID}", [None, [ID]])):
        bench.app.handle({
            "resource": "/things",
            "path": "/things",
            "httpMethod": "PATCH",
            "headers": {"Content-Type": "application/json", "Read-After": header},
            "multiValueQueryStringParameters": {"number": ["in.(1,2)"]},
            "body": json.dumps({"stock": {"$increment": -1}}),
        })  # fmt: skip
        after = [condition and condition["after"] for condition in conditions(bench)[-2:]]
        assert after == expected


def test_several_headers_name_several_dependencies() -> None:
    bench = WriteBench()
    bench.app.handle({
        "resource": "/cities/{key}",
        "path": "/cities/5",
        "httpMethod": "PATCH",
        "pathParameters": {"key": "5"},
        "headers": {"Content-Type": "application/json", "Read-After": OTHER_ID},
        "multiValueHeaders": {
            "read-after": [f"/v1/cities/5/commands/{ID}"],
            "if-match": [f'"{ID}", /v1/cities/5/commands/{OTHER_ID}'],
        },
        "body": json.dumps({"population": {"$increment": 1}}),
    })  # fmt: skip
    assert conditions(bench) == [{"match": [ID, OTHER_ID], "after": [ID, OTHER_ID]}]


def test_more_dependencies_than_a_condition_holds_are_400() -> None:
    """The line could not be read again."""
    bench = WriteBench()
    for count, status in ((MAX_COMPARISONS, 202), (MAX_COMPARISONS + 1, 400)):
        answer = bench.app.handle({
            "resource": "/cities/{key}",
            "path": "/cities/5",
            "httpMethod": "PATCH",
            "pathParameters": {"key": "5"},
            "headers": {"Content-Type": "application/json"},
            "multiValueHeaders": {"Read-After": [PATH] * count},
            "body": json.dumps({"population": {"$increment": 1}}),
        })  # fmt: skip
        assert answer.status == status
    (command,) = bench.sink.commands
    assert is_condition(command.condition)


def test_an_operation_depends_on_those_before_it_of_the_same_item() -> None:
    """A decided one stands for those that it depends on itself."""
    bench = WriteBench()
    add = {"population": {"$increment": 1}}
    operations = [
        {"op": "put", "resource": "cities", "key": 5, "body": CITY},
        {"op": "patch", "resource": "cities", "key": 5, "body": {"population": 1}},
        {"op": "patch", "resource": "cities", "key": 5, "body": add},
        {"op": "patch", "resource": "cities", "key": 6, "body": add},
        {"op": "patch", "resource": "cities", "key": 5, "body": {"population": 2}},
        {"op": "delete", "resource": "cities", "key": 5, "if_match": "*"},
    ]
    sent = bench.send(
        "POST", "/commands", operations, Read_After=f"/v1/cities/6/commands/{OTHER_ID}"
    )
    assert sent.status == 207
    ids = [command.id for command in bench.sink.commands]
    assert conditions(bench) == [
        None,
        None,
        {"after": ids[:2]},
        {"after": [OTHER_ID]},
        None,
        {"match": ["*"], "after": [ids[2], ids[4]]},
    ]


def test_a_full_condition_has_room_for_a_dependency() -> None:
    bench = WriteBench()
    tags = ", ".join([TAG] * MAX_COMPARISONS)
    answer = bench.send("DELETE", "/cities/{key}", key="5", If_Match=tags, Read_After=PATH)
    assert answer.status == 202
    (condition,) = conditions(bench)
    assert is_condition(condition)


@pytest.mark.parametrize("after", [[], ["x"], [5], ID, [ID] * 51])
def test_a_dependency_in_a_line_is_a_list_of_ids(after: Any) -> None:
    assert not is_condition({"after": after})
