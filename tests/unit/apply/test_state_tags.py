"""State tags of items with patches: two states with different values have different tags."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from forebay.apply.edits.state import KeyState
from forebay.command import Body, Command
from forebay.conditional import build_item_tag, does_tag_match, parse_state_tag, parse_version
from tests.fixtures.commands import city, patch
from tests.fixtures.patched import histories


def follow(commands: list[Command]) -> list[tuple[str | None, Body]]:
    """Return the tag and the values after each command."""
    state, steps = KeyState(), []
    for command in commands:
        state.absorb(command)
        steps.append((state.state_tag, dict(state.values)))
    return steps


@given(histories(), st.randoms(use_true_random=False))
def test_states_with_different_values_have_different_tags_in_any_order_of_commands(
    commands: list[Command], random: object
) -> None:
    shuffled = list(commands)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    seen: dict[str, Body] = {}
    for tag, values in follow(commands) + follow(shuffled):
        if tag is not None:
            assert seen.setdefault(tag, values) == values
    assert follow(commands)[-1] == follow(shuffled)[-1]


@given(histories())
def test_a_change_of_the_values_changes_the_tag(commands: list[Command]) -> None:
    for (tag, values), (next_tag, next_values) in pairwise(follow(commands)):
        if tag is not None and next_tag is not None and values != next_values:
            assert tag != next_tag


def test_an_older_patch_of_another_field_changes_the_tag_and_keeps_its_id() -> None:
    (before, _), (after, _) = follow([city(1), patch(3, name="b"), patch(2, population=1)])[1:]
    assert before is not None
    assert after is not None
    assert before != after
    newest = patch(3).id
    assert {parse_version(build_item_tag(tag, "x", "{}")) for tag in (before, after)} == {newest}
    assert parse_state_tag(build_item_tag(after, "x", "{}")) == after
    assert does_tag_match(newest, before)
    assert does_tag_match(newest, after)
    assert not does_tag_match(before, after)
