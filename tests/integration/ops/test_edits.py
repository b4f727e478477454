"""Patches and decided commands in the operators' tool: rebuild, verify, history, revert."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fixtures.edited import edit, edit_id, make_edits, read_edited, scatter, write_objects
from tests.fixtures.operating import Operator, apply_live

NOW = ("--at", "now")


@pytest.fixture
def operator(tmp_path: Path, database_url: str) -> Operator:
    """An operator with an empty archive and an empty database."""
    return Operator(tmp_path / "archive", database_url)


def apply_all(operator: Operator, *objects: list[object]) -> None:
    write_objects(operator.archive, objects)  # type: ignore[arg-type]
    apply_live(operator)


@pytest.mark.parametrize("processes", ["1", "3"])
@pytest.mark.parametrize("seed", range(4))
def test_a_rebuild_gives_the_patches_and_decisions_of_the_live_run(
    operator: Operator, another_database: Callable[[], str], processes: str, seed: int
) -> None:
    chance = random.Random(seed)
    apply_all(operator, *scatter(chance, make_edits(chance, 400), 12))
    live = read_edited(operator)
    assert all(live.values()), "every kind occurs"

    other = replace(operator, database_url=another_database())
    told = other.done("rebuild", "--yes", "--processes", processes)

    assert read_edited(other) == live
    assert told["undecided"] == 0
    assert (told["edits"], told["effects"]) == (len(live["edits"]), len(live["effects"]))
    assert other.rows(
        "SELECT count(*) FROM forebay.ledger"
        " WHERE lines <> applied + superseded + duplicates + rejected"
    ) == [(0,)]
    for each in (operator, other):
        assert each.done("verify", *NOW)["agrees"]
