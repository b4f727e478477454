"""PostgREST's JavaScript client writes to the whole stack, and reads its own writes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from devtools import node
from local.settings import ROOT
from tests.fixtures.stack import RunningStack, new_city

SCRIPT = Path(__file__).with_name("postgrest_writes.mjs")


@pytest.fixture(scope="module")
def keys() -> list[int]:
    return sorted(new_city()["geonameid"] for _ in range(3))


@pytest.fixture(scope="module")
def steps(shared_stack: RunningStack, keys: list[int]) -> dict[str, Any]:
    """What the client returned at each step, and the rows that it read afterwards."""
    address = f"http://127.0.0.1:{shared_stack.settings.ports.gateway}/v1"
    done = subprocess.run(
        [node.find_folder() / "node", SCRIPT, address, *map(str, keys)],
        cwd=ROOT,
        env=node.build_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    steps: dict[str, Any] = json.loads(done.stdout)
    return steps


def names(step: dict[str, Any]) -> list[str]:
    assert step["error"] is None, step
    return [row["name"] for row in step["rows"]]


def test_inserts_create_and_never_overwrite(steps: dict[str, Any], keys: list[int]) -> None:
    every = [f"City {key}" for key in keys]
    assert names(steps["insertOne"]) == every[:1]
    assert names(steps["insertMany"]) == every
    assert [result["key"] for result in steps["insertMany"]["data"]] == keys[1:]
    assert names(steps["insertAgain"]) == every


def test_upserts_replace(steps: dict[str, Any], keys: list[int]) -> None:
    last = f"City {keys[2]}"
    assert names(steps["upsert"]) == ["upserted", f"City {keys[1]}", last]
    assert names(steps["single"]) == ["upserted", "single", last]
    assert steps["single"]["data"]["key"] == keys[1]


def test_updates_set_the_named_fields_only(steps: dict[str, Any], keys: list[int]) -> None:
    last = f"City {keys[2]}"
    assert names(steps["update"]) == ["updated", "single", last]
    assert names(steps["updateMany"]) == ["updated", "single", last]
    assert [result["key"] for result in steps["updateMany"]["data"]] == keys[1:]
    assert [row["population"] for row in steps["updateMany"]["rows"]] == [1000, 7, 7]


def test_a_second_filter_is_compare_and_set(steps: dict[str, Any]) -> None:
    first, second = steps["compareAndSet"]["statuses"]
    assert first["status"] == "applied"
    assert (second["status"], second["error"]["code"]) == ("rejected", "precondition_failed")
    assert "swapped" in second["error"]["detail"]
    assert names(steps["compareAndSet"])[0] == "swapped"
    (deleted,) = steps["guardedDelete"]["statuses"]
    assert deleted["status"] == "rejected"


def test_an_increment_stays_within_the_declared_bounds(steps: dict[str, Any]) -> None:
    first, second = steps["decrement"]["statuses"]
    assert first["status"] == "applied"
    assert (second["status"], second["error"]["code"]) == ("rejected", "increment_failed")
    assert steps["decrement"]["rows"][1]["population"] == 2


def test_deletes_by_the_key_delete(steps: dict[str, Any], keys: list[int]) -> None:
    assert names(steps["deleteOne"]) == ["single", f"City {keys[2]}"]
    assert names(steps["deleteMany"]) == []
    assert [result["key"] for result in steps["deleteMany"]["data"]] == keys[1:]


@pytest.mark.parametrize(
    ("step", "status", "code", "word"),
    [
        ("invalid", 422, "validation_failed", "item 1"),
        ("otherConflict", 400, "PGRST127", "geonameid"),
        ("withoutKey", 400, "bad_filter", "geonameid"),
        ("updateWithoutKey", 400, "bad_filter", "geonameid"),
        ("updateInvalid", 422, "validation_failed", "one fault"),
    ],
)
def test_a_refusal_is_an_error_with_a_message(
    steps: dict[str, Any], step: str, status: int, code: str, word: str
) -> None:
    assert steps[step]["status"] == status
    assert steps[step]["error"]["code"] == code
    assert word in steps[step]["error"]["message"]
    assert steps[step]["data"] is None
