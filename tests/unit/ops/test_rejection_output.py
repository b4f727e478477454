"""The output of `forebay rejections retry`: the changes of a rule, with values as JSON."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from rich.console import Console

from ops.commands.rejection_output import tabulate_attempts
from ops.rejections.planning import Attempt
from ops.rejections.store import Stored


def print_change(before: dict[str, Any], after: dict[str, Any]) -> str:
    stored = Stored(
        *("id", "rivers", "Thames", "put", "unique_violation", None, "", b"", "object"),
        *(dt.datetime(2026, 11, 21, tzinfo=dt.UTC), "open", None, None, None, None, None),
    )
    whole = {"resource": "rivers", "key": "Thames", "body": {}}
    attempt = Attempt(stored, "ready", before={**whole, **before}, after={**whole, **after})
    console = Console(width=500, record=True)
    console.print(tabulate_attempts([attempt]))
    return console.export_text()


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({"body": {"a": "UK"}}, {"body": {"a": "GB"}}, 'a: "UK" → "GB"'),
        ({"body": {"a": None}}, {"body": {"a": True}}, "a: null → true"),
        ({"body": {"a": 5}}, {"body": {}}, "a: 5 → (missing)"),
        (
            {"if": {"where": [["a", "is", None]]}},
            {},
            '(condition): {"where":[["a","is",null]]} → (missing)',
        ),
    ],
)
def test_a_change_has_its_values_as_json(
    before: dict[str, Any], after: dict[str, Any], text: str
) -> None:
    assert text in print_change(before, after)
