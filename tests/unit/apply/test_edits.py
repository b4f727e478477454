"""Law 2 for patches, without a database: any order of a key's commands gives the model's state."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.apply.edits.state import RECENT_IDS, KeyState
from forebay.command import Command, Op
from tests.fixtures.commands import city, command_id
from tests.fixtures.edits import Decisions, Item, fold

OPS: tuple[Op, ...] = ("create", "put", "delete", "patch", "patch", "patch")
NAMES = ("name", "timezone", "population")


@st.composite
def commands_of_a_key(draw: st.DrawFn) -> list[Command]:
    drawn = draw(
        st.lists(
            st.tuples(st.sampled_from(OPS), st.sets(st.sampled_from(NAMES), min_size=1)),
            max_size=14,
        )
    )
    commands = []
    for number, (op, names) in enumerate(drawn):
        command = city(number, "put" if op == "patch" else op)
        if op == "patch":
            command = command._replace(op=op, body={name: f"{name} {number}" for name in names})
        commands.append(command)
    return commands


def describe(state: KeyState) -> Item:
    """The state in the form of the model."""
    item = Item(fields=state.fields)
    if state.base is not None and state.base.is_delete:
        item.tombstone = state.base.id
    elif state.base is not None:
        item.values, item.base, item.by_create = state.values, state.base.id, state.base.is_create
    item.kept = {patch.id: set(patch.body or {}) for patch in state.kept.values()}
    return item


@settings(max_examples=1_000)
@given(commands=commands_of_a_key(), seed=st.integers(0, 2**32))
def test_any_order_and_repetition_gives_the_state_of_the_model(
    commands: list[Command], seed: int
) -> None:
    rng = random.Random(seed)
    order = commands + [rng.choice(commands) for _ in range(rng.randint(0, 5)) if commands]
    rng.shuffle(order)
    state = KeyState()
    for command in order:
        state.absorb(command)
    assert describe(state) == fold(commands, Decisions()).get(1, Item())


@settings(max_examples=300)
@given(commands=commands_of_a_key(), seed=st.integers(0, 2**32))
def test_two_states_with_other_content_have_other_tags(commands: list[Command], seed: int) -> None:
    random.Random(seed).shuffle(commands)
    state, contents = KeyState(), dict[str | None, object]()
    for command in commands:
        state.absorb(command)
        if state.has_item:
            content = dict(state.values)
            assert contents.setdefault(state.state_tag, content) == content


def test_a_key_remembers_the_greatest_ids_of_lost_patches_only() -> None:
    state = KeyState()
    state.absorb(city(0))
    numbers = list(range(1, 40))
    for number in numbers:
        state.absorb(city(number)._replace(op="patch", body={"name": f"{number}"}))
    state.absorb(city(1)._replace(op="patch", body={"name": "1"}))
    assert state.recent == [command_id(number) for number in numbers[-RECENT_IDS - 1 : -1]]
    assert state.absorb(city(38)._replace(op="patch", body={"name": "38"})) == "duplicate"


@settings(max_examples=500)
@given(commands=commands_of_a_key())
def test_the_first_patch_of_an_item_is_absorbed_as_any_other(commands: list[Command]) -> None:
    for command in reversed(commands):
        for before in ([], commands[:1], commands[: len(commands) // 2]):
            state = KeyState()
            for earlier in before:
                state.absorb(earlier)
            # As a state is read: the row of `forebay.edits` tells whether there are patches.
            state.is_recorded = bool(state.fields or state.kept or state.recent)
            state.changed, state.new_base = set(), None
            simple = state.copied()
            if simple.is_unpatched_item and simple.absorb_first_patch(command):
                assert state.absorb(command) == "applied"
            assert simple == state
