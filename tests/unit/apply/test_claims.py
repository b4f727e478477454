"""Claims of unique values in a chunk."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.apply.edits.claims import Claim, find_rivals
from tests.fixtures.commands import city


def claim(number: int, key: int, value: Any) -> Claim:
    return Claim.of_command(city(number, "put", key)._replace(body={"name": value}))


def test_the_key_with_the_oldest_claim_of_a_value_comes_first() -> None:
    claims = [claim(3, 30, "x"), claim(1, 10, "x"), claim(2, 20, "x"), claim(4, 40, "y")]
    assert find_rivals([["name"]], claims) == {20: {10}, 30: {10}}


@pytest.mark.parametrize("value", [None, {"a": 1}, ["a"], {"$increment": 1}])
def test_nulls_increments_and_json_values_are_left_to_postgres(value: Any) -> None:
    """A user's index may make a JSON column unique."""
    assert find_rivals([["name"]], [claim(1, 10, value), claim(2, 20, value)]) == {}
