"""Encoded plans: complete, and small enough for DynamoDB's cheapest write."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay.codec import encode
from forebay.command import Command
from forebay.ids import IdSource
from forebay.intake.commands import Line
from lambdas.write.answers import Answers
from lambdas.write.plan import Plan, decode_plan

IDS = IdSource()
KEYS = st.integers(-(2**63), 2**63 - 1) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40
)


def make_plan(key: int | str, *, items: int = 1, length: int = 10) -> Plan:
    """The plan of a request with so many items of this key."""
    commands = [
        Command(IDS.make(create=False), "put", "orders", key, 1, "me", None, {"note": "n" * length})
        for _ in range(items)
    ]
    answers = Answers(15)
    response = (
        answers.answer_one(commands[0], "outcome")
        if items == 1
        else answers.answer_batch(commands, "/v1/orders")
    )
    return Plan(response, [Line(command, encode(command)) for command in commands])


@given(KEYS, st.sampled_from([1, 2]), st.sampled_from([0, 200, 5_000]))
@example("\x01", 1, 0)
@example("\x02", 1, 0)
@example("a\nb\x01\x02", 1, 0)
@example("[", 1, 0)
@example("\\u0001", 1, 0)
def test_a_plan_is_decoded_as_it_was(key: int | str, items: int, length: int) -> None:
    plan = make_plan(key, items=items, length=length)
    answer, lines = plan.encode()
    decoded = decode_plan(answer, lines)
    assert decoded.response == plan.response
    assert [line.data for line in decoded.lines] == [line.data for line in plan.lines]
    # Without lines, as in a finished record, the answer is whole too.
    assert decode_plan(answer, b"").response == plan.response


@pytest.mark.parametrize("key", [5, "da4ea6bd-2054-5e0d-8f73-733028fe38b3"])
@pytest.mark.parametrize("length", [0, 100, 300, 400])
def test_the_record_of_one_item_is_a_write_of_one_kilobyte(key: int | str, length: int) -> None:
    answer, lines = make_plan(key, length=length).encode()
    assert len(answer) + len(lines) <= 840


def test_a_plan_of_an_earlier_release_is_decoded() -> None:
    """It was compressed, whatever its size."""
    plan = make_plan("k" * 300, length=2_000)
    answer, lines = plan.encode()
    assert answer[0] & 1 == 0
    assert decode_plan(answer, lines).response == plan.response
