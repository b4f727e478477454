"""The status of a command follows from the tables alone, and agrees with law 2."""

from __future__ import annotations

from itertools import permutations

import pytest

from forebay.command import Command, Op
from forebay.status import CommandStatus, Reason, Traces, find_status
from tests.fixtures.commands import city

OPS: tuple[Op, ...] = ("create", "put", "delete")


def traces(winner: Command | None) -> Traces:
    """Return the contents of the tables after this command has won its key."""
    if winner is None:
        return Traces()
    if winner.op == "delete":
        return Traces(tombstone=winner.id)
    return Traces(row_version=winner.id, row_by_create=winner.op == "create")


@pytest.mark.parametrize("op", OPS)
def test_a_command_is_pending_until_something_settles_it(op: Op) -> None:
    assert find_status(city(1, op).id, Traces()) == "pending"


@pytest.mark.parametrize("op", OPS)
def test_the_winner_is_applied(op: Op) -> None:
    assert find_status(city(1, op).id, traces(city(1, op))) == "applied"


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("other", OPS)
@pytest.mark.parametrize("numbers", list(permutations([1, 2])))
def test_a_loser_is_superseded_and_a_winner_still_to_come_is_pending(
    op: Op, other: Op, numbers: tuple[int, int]
) -> None:
    command, present = city(numbers[0], op), city(numbers[1], other)
    expected: CommandStatus = "pending" if command.beats(present) else "superseded"
    assert find_status(command.id, traces(present)) == expected


def test_a_rejection_is_final_whatever_the_row_is() -> None:
    rejected = Traces(row_version=city(9).id, rejection=Reason("code", "detail"))
    assert find_status(city(1).id, rejected) == "rejected"
