"""The status of a command follows from the tables alone, and agrees with law 2."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given

from forebay.apply.edits.state import RECENT_IDS as KEPT_BY_APPLY
from forebay.apply.edits.state import KeyState
from forebay.command import Command, Op
from forebay.ids import IdSource
from forebay.status import (
    RECENT_IDS,
    CommandStatus,
    Patches,
    Reason,
    Traces,
    find_status,
    find_superseding,
)
from tests.fixtures.commands import city, command_id
from tests.fixtures.patched import histories, traces_of

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


@pytest.mark.parametrize("newer", [city(9), city(9, "delete"), None])
def test_a_decided_command_is_pending_until_it_is_decided_however_old_it_is(
    newer: Command | None,
) -> None:
    decided = IdSource(now_ms=lambda: 0).make(create=False, decided=True)
    recent = tuple(command_id(number) for number in range(RECENT_IDS))
    there = replace(traces(newer), patches=Patches(recent=recent))
    assert find_status(decided, there) == "pending"
    assert find_status(decided, replace(there, rejection=Reason("code", "detail"))) == "rejected"
    place = command_id(20)
    passed = replace(there, row_version=place, tombstone=None, effective_id=place)
    assert find_status(decided, passed) == "applied"
    assert find_status(decided, replace(passed, row_version=command_id(30))) == "superseded"


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("other", OPS)
@pytest.mark.parametrize("numbers", list(permutations([1, 2])))
def test_a_loser_is_superseded_and_a_winner_still_to_come_is_pending(
    op: Op, other: Op, numbers: tuple[int, int]
) -> None:
    command, present = city(numbers[0], op), city(numbers[1], other)
    expected: CommandStatus = "pending" if command.beats(present) else "superseded"
    assert find_status(command.id, traces(present)) == expected


def test_a_rejection_is_final_for_any_row() -> None:
    rejected = Traces(row_version=city(9).id, rejection=Reason("code", "detail"))
    assert find_status(city(1).id, rejected) == "rejected"


#: The base of the key, number 5.
BASES = {
    "none": Traces(),
    "put": traces(city(5)),
    "create": traces(city(5, "create")),
    "delete": traces(city(5, "delete")),
}
PENDING, APPLIED, BEATEN = "pending", "applied", "superseded"
#: The status of an id that the key's patches don't include, whether there are patches or not: of a
#: put, delete or patch older than the base, or newer; and of a create older than it, or newer.
STRANGERS = {
    "none": (PENDING, PENDING, PENDING, PENDING),
    "put": (BEATEN, PENDING, BEATEN, BEATEN),
    "create": (PENDING, PENDING, PENDING, BEATEN),
    "delete": (BEATEN, PENDING, BEATEN, BEATEN),
}
#: Patches that the base allows; `recent` is not full.
KNOWN = {
    "none": Patches(kept=[command_id(8)], recent=[command_id(7)]),
    "put": Patches(in_item=[command_id(8)], recent=[command_id(7), command_id(4)]),
    "create": Patches([command_id(8)], [command_id(4)], [command_id(7), command_id(3)]),
    "delete": Patches(kept=[command_id(8)], recent=[command_id(7)]),
}


def settle(base: str, patches: Patches) -> Traces:
    """Return the traces of a key with this base and these patches."""
    known = BASES[base]
    return Traces(known.row_version, known.row_by_create, known.tombstone, patches=patches)


@pytest.mark.parametrize("base", list(BASES))
@pytest.mark.parametrize("has_patches", [False, True])
def test_an_id_without_traces_is_superseded_only_if_no_kind_of_command_can_win_with_it(
    base: str, *, has_patches: bool
) -> None:
    known = settle(base, KNOWN[base] if has_patches else Patches())
    older, newer = command_id(2), command_id(9)
    older_create, newer_create = command_id(2, create=True), command_id(9, create=True)
    ids = (older, newer, older_create, newer_create)
    assert tuple(find_status(stranger, known) for stranger in ids) == STRANGERS[base]


@pytest.mark.parametrize(
    ("base", "number", "status", "superseded_by"),
    [
        ("none", 8, "pending", None),  # waits
        ("none", 7, "superseded", 8),
        ("none", 6, "pending", None),  # may be a put that has not come, or a patch
        ("put", 8, "applied", None),
        ("put", 7, "superseded", 8),
        ("put", 6, "pending", None),
        ("put", 5, "applied", None),
        ("put", 4, "superseded", 5),
        ("create", 8, "applied", None),
        ("create", 7, "superseded", 8),
        ("create", 6, "pending", None),
        ("create", 4, "superseded", 5),  # an older create that arrives brings it back
        ("create", 3, "superseded", 8),
        ("delete", 8, "pending", None),  # sent back to waiting
        ("delete", 7, "superseded", 8),
        ("delete", 6, "pending", None),
        ("delete", 5, "applied", None),
        ("delete", 4, "superseded", 5),
    ],
)
def test_a_patch_is_found_among_those_of_its_key(
    base: str, number: int, status: CommandStatus, superseded_by: int | None
) -> None:
    known, place = settle(base, KNOWN[base]), command_id(number)
    assert find_status(place, known) == status
    if status == "superseded":
        expected = command_id(superseded_by or 0, create=(base, superseded_by) == ("create", 5))
        assert find_superseding(place, known) == expected


def test_a_create_that_patches_follow_is_applied() -> None:
    known = settle("create", KNOWN["create"])
    assert find_status(command_id(5, create=True), known) == "applied"


def test_apply_remembers_as_many_patches_without_effect_as_make_a_full_list() -> None:
    assert RECENT_IDS == KEPT_BY_APPLY


@pytest.mark.parametrize(
    ("base", "full", "short"),
    [
        ("none", "pending", "pending"),  # a put below all patches is just what they wait for
        ("put", "superseded", "pending"),
        ("create", "superseded", "pending"),
        ("delete", "pending", "pending"),
    ],
)
def test_a_patch_that_an_item_has_forgotten_is_superseded(
    base: str, full: CommandStatus, short: CommandStatus
) -> None:
    recent = [command_id(number) for number in range(10, 10 + RECENT_IDS)]
    for ids, status in ((recent, full), (recent[1:], short)):
        newest = [command_id(40)]
        patches = (
            Patches(newest, (), ids) if base in {"put", "create"} else Patches((), newest, ids)
        )
        assert find_status(command_id(9), settle(base, patches)) == status
        assert find_status(command_id(39), settle(base, patches)) == "pending"
        # No patch has the id of a create.
        created = find_status(command_id(4, create=True), settle(base, patches))
        assert created == find_status(command_id(4, create=True), BASES[base])


@pytest.mark.parametrize("base", list(BASES))
@pytest.mark.parametrize(
    ("effective", "status"),
    [(8, {"none": "pending", "delete": "pending"}), (7, {}), (5, {"none": "pending"})],
)
def test_a_decided_command_has_the_status_of_its_effective_id(
    base: str, effective: int, status: dict[str, CommandStatus]
) -> None:
    default: CommandStatus = "superseded" if effective == 7 else "applied"
    place = BASES[base].base if effective == 5 else command_id(effective)
    known = settle(base, KNOWN[base])
    passed = Traces(
        *(known.row_version, known.row_by_create, known.tombstone),
        patches=known.patches,
        effective_id=place or command_id(5),
    )
    for own in (1, 4, 6):
        assert find_status(command_id(own), passed) == status.get(base, default)


def expect(command: Command, arrived: list[Command]) -> CommandStatus:
    """Return the status of a command that has arrived, from the rules of the design."""
    base: Command | None = None
    for other in arrived:
        if other.op != "patch" and (base is None or other.beats(base)):
            base = other
    if command.op != "patch":
        return "applied" if command == base else "superseded"
    has_item = base is not None and base.op != "delete"
    if base is not None and command.id < base.id:
        return "superseded"
    newer = [other for other in arrived if other.op == "patch" and other.id > command.id]
    taken = {name for other in newer for name in other.body or {}}
    if set(command.body or {}) <= taken:
        return "superseded"
    return "applied" if has_item else "pending"


@given(histories())
def test_each_command_that_has_arrived_has_the_status_of_the_design(
    arrivals: list[Command],
) -> None:
    state = KeyState()
    for number, command in enumerate(arrivals, start=1):
        state.absorb(command)
        known = traces_of(state)
        for arrived in arrivals[:number]:
            status = find_status(arrived.id, known)
            assert status == expect(arrived, arrivals[:number]), arrived
            if status == "superseded":
                assert find_superseding(arrived.id, known) in {c.id for c in arrivals[:number]}
        for absent in arrivals[number:]:
            if find_status(absent.id, known) == "superseded":
                later = state.copied()
                later.absorb(absent)
                assert find_status(absent.id, traces_of(later)) == "superseded", absent
