"""The rules that fix rejected commands: their conditions, their changes, their error messages."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import SettingsError
from ops.rejections import pointer, rules
from ops.rejections.pointer import PatchError
from ops.rejections.rules import Rule


@dataclass(frozen=True)
class Rejected:
    resource: str = "cities"
    op: str = "put"
    key: int | str = 5
    body: dict[str, Any] | None = field(default_factory=lambda: {"name": "Aachen", "tags": ["a"]})
    code: str = "check_violation"
    detail: str = "population must not be negative; column population"


def rule(patch: list[dict[str, Any]] | None = None, **match: Any) -> Rule:
    return Rule.model_validate(
        {
            "name": "r",
            "match": match or {"code": "check_violation"},
            "patch": patch or [{"op": "remove", "path": "/body/name"}],
        }
    )


def mended(body: dict[str, Any], *patch: dict[str, Any]) -> dict[str, Any]:
    document = {"resource": "cities", "key": 5, "body": body}
    return rule(list(patch)).mend(document)


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({"resource": "cities"}, True),
        ({"resource": "countries"}, False),
        ({"op": "delete"}, False),
        ({"code": "check_violation", "detail": r"column popul"}, True),
        ({"code": "check_violation", "detail": r"^column"}, False),
        ({"key": "^5$"}, True),
        ({"key": "6"}, False),
        ({"body": {"/name": "^A"}}, True),
        ({"body": {"/name": "^B"}}, False),
        ({"body": {"/mayor": "x"}}, False),
        ({"body": {"/tags": r'\["a"\]'}}, True),
    ],
)
def test_a_rule_matches_if_all_its_conditions_hold(match: dict[str, Any], *, holds: bool) -> None:
    assert rule(**match).match.holds(Rejected()) is holds


def test_a_rule_about_the_body_is_not_for_a_delete() -> None:
    assert not rule(body={"/name": "A"}).match.holds(Rejected(op="delete", body=None))


def test_the_first_rule_that_matches_is_used() -> None:
    first, second = rule(resource="cities"), rule(code="check_violation")
    assert rules.find_rule([first, second], Rejected()) is first
    assert rules.find_rule([second], Rejected(resource="x")) is second
    assert rules.find_rule([first], Rejected(resource="x")) is None


BODY = {"a": "1", "b": {"c": [1, 2]}, "n": None}
GONE = object()


@pytest.mark.parametrize(
    ("patch", "changed"),
    [
        ({"op": "set", "path": "/body/a", "value": 7}, {"a": 7}),
        ({"op": "set", "path": "/body/b/c/1", "value": 7}, {"b": {"c": [1, 7]}}),
        ({"op": "default", "path": "/body/a", "value": 7}, {}),
        ({"op": "default", "path": "/body/n", "value": 7}, {"n": 7}),
        ({"op": "default", "path": "/body/z", "value": 7}, {"z": 7}),
        ({"op": "null", "path": "/body/a"}, {"a": None}),
        ({"op": "remove", "path": "/body/b"}, {"b": GONE}),
        ({"op": "remove", "path": "/body/b/c/0"}, {"b": {"c": [2]}}),
        ({"op": "move", "path": "/body/a", "to": "/body/z"}, {"a": GONE, "z": "1"}),
        (
            {"op": "substitute", "path": "/body/a", "pattern": r"(\d)", "by": r"<\1>"},
            {"a": "<1>"},
        ),
        ({"op": "cast", "path": "/body/a", "to": "integer"}, {"a": 1}),
        ({"op": "cast", "path": "/body/a", "to": "number"}, {"a": 1.0}),
        ({"op": "cast", "path": "/body/a", "to": "boolean"}, {"a": True}),
        ({"op": "cast", "path": "/body/b/c/0", "to": "text"}, {"b": {"c": ["1", 2]}}),
    ],
)
def test_a_change_changes_only_the_place_that_it_names(
    patch: dict[str, Any], changed: dict[str, Any]
) -> None:
    before = copy.deepcopy(BODY)
    expected = {name: value for name, value in {**BODY, **changed}.items() if value is not GONE}
    assert mended(before, patch)["body"] == expected
    assert before == BODY, "the archived body is not touched"


def test_changes_are_made_in_order() -> None:
    changes: list[dict[str, Any]] = [
        {"op": "move", "path": "/body/a", "to": "/body/b"},
        {"op": "cast", "path": "/body/b", "to": "number"},
    ]
    assert mended({"a": "1.5"}, *changes)["body"] == {"b": 1.5}


def test_key_and_resource_can_be_mended_too() -> None:
    document = mended(
        {},
        {"op": "cast", "path": "/key", "to": "text"},
        {"op": "set", "path": "/resource", "value": "towns"},
    )
    assert (document["key"], document["resource"]) == ("5", "towns")


@pytest.mark.parametrize(
    ("patch", "where"),
    [
        ({"op": "remove", "path": "/body/z"}, "/body/z"),
        ({"op": "move", "path": "/body/z", "to": "/body/a"}, "/body/z"),
        ({"op": "set", "path": "/body/z/y", "value": 1}, "/body/z/y"),
        ({"op": "set", "path": "/body/c/9", "value": 1}, "/body/c/9"),
        ({"op": "set", "path": "/body/c/01", "value": 1}, "/body/c/01"),
        ({"op": "set", "path": "/body/a/b", "value": 1}, "/body/a/b"),
        ({"op": "substitute", "path": "/body/n", "pattern": "a", "by": ""}, "/body/n"),
        ({"op": "cast", "path": "/body/a", "to": "integer"}, "/body/a"),
        ({"op": "cast", "path": "/body/c", "to": "integer"}, "/body/c"),
        ({"op": "cast", "path": "/body/half", "to": "integer"}, "/body/half"),
        ({"op": "remove", "path": "/body/c/-"}, "/body/c/-"),
        ({"op": "set", "path": "/body/c/\uff11", "value": 1}, "/body/c/"),
        ({"op": "set", "path": "/body/a/0", "value": 1}, "/body/a/0"),
    ],
)
def test_a_change_that_does_not_fit_names_its_place(patch: dict[str, Any], where: str) -> None:
    with pytest.raises(PatchError, match=where):
        mended({"a": "x", "c": [1], "n": 1, "half": 0.5}, patch)


@given(
    st.recursive(
        st.integers() | st.text(),
        lambda inner: (
            st.dictionaries(st.text(max_size=3), inner, max_size=3) | st.lists(inner, max_size=3)
        ),
        max_leaves=8,
    ).filter(lambda value: isinstance(value, dict))
)
def test_every_place_of_a_document_can_be_named_read_and_set(document: dict[str, Any]) -> None:
    for where, value in places(document):
        assert pointer.get(document, where) == value
        pointer.put(document, where, value)
        assert pointer.get(document, where) == value


def places(value: Any, at: str = "") -> list[tuple[str, Any]]:
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        inner = [(name.replace("~", "~0").replace("/", "~1"), one) for name, one in value.items()]
    if isinstance(value, list):
        inner = [(str(index), one) for index, one in enumerate(value)]
    paths = [(f"{at}/{token}", one) for token, one in inner]
    return paths + [place for where, one in paths for place in places(one, where)]


NULL = "[{op='null', path='/body/a'}]"


def file_of(match: str, patch: str) -> str:
    return f"[[rule]]\nname = 'a'\nmatch = {match}\npatch = {patch}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rule = [", "not valid TOML"),
        ("", "rule: Field required"),
        (file_of("{}", NULL), "a rule needs a condition"),
        (file_of("{code='c'}", "[]"), "at least 1 item"),
        (file_of("{code='c', x=1}", NULL), "match.x"),
        (file_of("{detail='('}", NULL), "regular expression"),
        (file_of("{code='c'}", "[{op='null', path='/by'}]"), "/resource, /key or"),
        (file_of("{code='c'}", "[{op='null', path='/body/a~2b'}]"), "not a JSON Pointer"),
        (file_of("{code='c'}", "[{op='set', path='/body/a'}]"), "value: Field required"),
        (file_of("{code='c'}", "[{op='drop', path='/body/a'}]"), "rule.0.patch.0"),
        (
            file_of("{code='c'}", "[{op='substitute', path='/key', pattern='a', by='\\2'}]"),
            "does not fit the pattern",
        ),
    ],
)
def test_an_invalid_rules_file_is_refused_with_the_place(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(said)) as caught:
        rules.load(file)
    assert str(file) in str(caught.value)
