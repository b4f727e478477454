"""The checker finds every kind of broken promise, and no violations in a run that kept them all."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forebay.ids import join_id
from tests.history.checker import check, strength
from tests.history.operations import Final, Operation, Row, read_history, write_history

PLACE = ("cities", "1")


def put_id(number: int) -> str:
    return join_id(1_800_000_000_000 + number, 0)


def create_id(number: int) -> str:
    return join_id(1_800_000_000_000 + number, 1)


def write(at: float, text: str | None = None, **said: Any) -> Operation:
    """A write of a text that takes a second; without a text, a delete."""
    usual: dict[str, Any] = {
        "client": "anna",
        "kind": "put" if text else "delete",
        "resource": PLACE[0],
        "key": PLACE[1],
        "began": at,
        "ended": at + 1,
        "status": 202,
        "command_id": put_id(int(at)),
        "sent": {"name": text} if text else None,
    }
    if said.get("status", 202) != 202:
        usual["command_id"] = None
    return Operation(**{**usual, **said})


def read(at: float, version: str | None, text: str | None = None, **said: Any) -> Operation:
    """A read that takes a second; without version and text, of a missing item."""
    usual: dict[str, Any] = {
        "client": "bert",
        "kind": "read",
        "resource": PLACE[0],
        "key": PLACE[1],
        "began": at,
        "ended": at + 1,
        "status": 200 if version or text else 404,
        "version": version,
        "got": {"name": text, "other": None} if text else None,
    }
    return Operation(**{**usual, **said})


def told(at: float, command_id: str, fate: str, by: str | None = None) -> Operation:
    return Operation(
        client="carl", kind="status", resource=PLACE[0], key=PLACE[1], began=at, ended=at + 1,
        status=200, command_id=command_id, fate=fate, superseded_by=by,
    )  # fmt: skip


def ending(version: str, text: str, *, rejected: tuple[str, ...] = ()) -> Final:
    return Final({PLACE: Row(version, {"name": text})}, rejected=frozenset(rejected), at=1000)


def deleted(version: str) -> Final:
    return Final(tombstones={PLACE: version}, at=1000)


def broken(history: list[Operation], final: Final) -> set[str]:
    return {violation.what for violation in check(history, final)}


def test_a_run_that_kept_all_promises_is_clean() -> None:
    first, second, third = put_id(10), put_id(20), put_id(30)
    history = [
        write(5, status=422, text="bad", code="validation_failed"),
        read(6, None),
        write(10, "one"),
        read(10.5, first, "one"),
        told(11, first, "pending"),
        read(12, None),  # a cache may be stale
        read(12, first, "one", read_after=first),
        told(12, first, "applied"),
        write(20, "two", if_match=first),
        write(21, "unheard", status=503, code="unavailable"),
        write(30, client="bert", read_after=first),
        told(31, first, "superseded", second),
        read(33, None, read_after=third),
        read(34, first, "one"),
        told(1001, second, "superseded", third),
    ]
    assert check(history, deleted(third)) == []


def test_an_accepted_write_that_left_no_trace_is_lost() -> None:
    assert broken([write(10, "one")], Final()) == {"accepted write lost"}


def test_an_accepted_write_that_a_weaker_one_outlived_is_lost() -> None:
    history = [write(10, "one"), write(20, "two")]
    assert broken(history, ending(put_id(10), "one")) == {"accepted write lost"}
    assert broken(history, ending(put_id(20), "two")) == set()


def test_a_create_loses_to_puts_and_to_older_creates() -> None:
    creates = [
        write(at, f"created {at}", kind="create", command_id=create_id(at)) for at in (30, 40)
    ]
    assert broken(creates, ending(create_id(30), "created 30")) == set()
    assert broken(creates, ending(create_id(40), "created 40")) == {"accepted write lost"}
    everything = [write(10, "one"), *creates]
    assert broken(everything, ending(put_id(10), "one")) == set()
    assert broken(everything, ending(create_id(30), "created 30")) == {"accepted write lost"}
    assert strength(put_id(10)) > strength(create_id(30)) > strength(create_id(40))


def test_a_write_without_an_answer_may_have_happened_or_not() -> None:
    history = [write(10, "one"), write(20, "two", status=0)]
    assert broken(history, ending(put_id(10), "one")) == set()
    assert broken(history, ending(put_id(20), "two")) == set()
    gone = [write(10, "one"), write(20, status=503, code="unavailable")]
    assert broken(gone, ending(put_id(10), "one")) == set()
    assert broken(gone, deleted(put_id(20))) == set()


def test_a_delete_without_a_command_is_found() -> None:
    assert broken([write(10, "one")], deleted(put_id(20))) == {"value never written"}


def test_only_faulty_writes_may_be_rejected_and_they_may_never_be_seen() -> None:
    command_id = put_id(10)
    rejected = Final(rejected=frozenset({command_id}), at=1000)
    assert broken([write(10, "one", faulty=True)], rejected) == set()
    assert broken([write(10, "one")], rejected) == {"rejected without a fault"}
    seen = [write(10, "one", faulty=True), read(12, command_id, "one")]
    assert "faulty write applied" in broken(seen, rejected)
    assert "faulty write applied" in broken([seen[0]], ending(command_id, "one"))
    assert broken([write(10, "one"), told(12, command_id, "rejected")], ending(command_id, "one"))
    assert broken([write(10, "one", faulty=True), told(12, command_id, "applied")], rejected) == {
        "faulty write applied"
    }


def test_a_faulty_write_without_an_outcome_is_lost() -> None:
    assert broken([write(10, "one", faulty=True)], Final()) == {"accepted write lost"}


@pytest.mark.parametrize("version", [put_id(10), put_id(11), None])
def test_a_value_without_a_write_is_found(version: str | None) -> None:
    history = [write(10, "one"), read(12, version, "another")]
    assert "value never written" in broken(history, ending(put_id(10), "one"))


def test_a_listed_value_needs_no_version() -> None:
    history = [write(10, "one"), write(20, "two"), read(30, None, "one")]
    assert broken(history, ending(put_id(20), "two")) == set()


def test_a_version_that_no_answer_and_no_open_write_explains_is_found() -> None:
    history = [write(10, "one"), read(12, put_id(11), "one")]
    assert "value never written" in broken(history, ending(put_id(10), "one"))
    assert "value never written" in broken([write(10, "one")], ending(put_id(11), "one"))
    unchanged = read(12, put_id(11), status=304)
    assert "value never written" in broken([write(10, "one"), unchanged], ending(put_id(10), "one"))


def test_refused_writes_may_not_be_seen() -> None:
    history = [write(5, "bad", status=422), read(8, put_id(5), "bad"), write(10, "one")]
    assert broken(history, ending(put_id(10), "one")) == {"refused write seen"}
    assert "refused write seen" in broken(history[:1], ending(put_id(5), "bad"))


def test_one_open_write_makes_one_version() -> None:
    history = [
        write(10, "one", status=0),
        read(12, put_id(10), "one"),
        read(14, put_id(11), "one"),
    ]
    assert broken(history, ending(put_id(11), "one")) == {"one write, two versions"}


def test_a_value_is_not_seen_before_somebody_sends_it() -> None:
    history = [read(5, put_id(10), "one"), write(10, "one")]
    assert broken(history, ending(put_id(10), "one")) == {"value from the future"}


def test_a_value_is_not_seen_at_another_key() -> None:
    history = [write(10, "one"), read(12, put_id(10), "one", key="2")]
    assert "value of another key" in broken(history, ending(put_id(10), "one"))


def test_writes_that_were_seen_are_not_lost() -> None:
    history = [
        write(10, "one"),
        write(20, "two", status=0),
        read(22, put_id(20), "two"),
    ]
    assert broken(history, ending(put_id(10), "one")) == {"seen write lost"}


def test_a_read_older_than_requested_is_found() -> None:
    history = [
        write(10, "one"),
        write(20, "two"),
        read(22, put_id(10), "one", read_after=put_id(20)),
    ]
    assert broken(history, ending(put_id(20), "two")) == {"older than asked"}
    nothing = [write(10, "one"), read(12, None, read_after=put_id(10))]
    assert broken(nothing, ending(put_id(10), "one")) == {"older than asked"}


def test_read_after_may_show_the_superseding_command() -> None:
    history = [
        write(10, "one"),
        write(15, "late", kind="create", command_id=create_id(15)),
        read(22, put_id(10), "one", read_after=create_id(15)),
        read(24, None, read_after=put_id(10)),  # because of the delete without an answer
        write(24.5, status=0),
    ]
    assert broken(history, deleted(put_id(24))) == set()


def test_read_after_of_a_rejected_command_requires_nothing_newer_than_was_seen() -> None:
    bad = write(30, "bad", faulty=True, client="bert")
    history = [
        write(10, "one"),
        write(20, "two"),
        read(22, put_id(20), "two", read_after=put_id(20)),
        bad,
    ]
    final = ending(put_id(20), "two", rejected=(put_id(30),))
    fine = read(32, put_id(20), "two", read_after=put_id(30))
    assert broken([*history, fine], final) == set()
    back = read(32, put_id(10), "one", read_after=put_id(30))
    assert broken([*history, back], final) == {"went back"}
    another = replace(back, client="dora")
    assert broken([*history, another], final) == set(), "who has seen nothing is promised nothing"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("applied", "pending"),
        ("superseded", "applied"),
        ("superseded", "pending"),
        ("rejected", "pending"),
    ],
)
def test_a_status_that_turns_is_found(before: str, after: str) -> None:
    by = {"superseded": put_id(20)}
    history = [
        write(10, "one", faulty=before == "rejected"),
        write(20, "two"),
        told(30, put_id(10), before, by.get(before)),
        told(40, put_id(10), after, by.get(after)),
    ]
    final = ending(put_id(20), "two", rejected=(put_id(10),) if before == "rejected" else ())
    assert broken(history, final) == {"status turned"}
    at_once = [*history[:3], replace(history[3], began=30.5)]
    assert broken(at_once, final) == set(), "answers at the same time have no order"


def test_a_superseding_command_must_exist_and_be_stronger() -> None:
    history = [write(10, "one"), write(20, "two")]
    final = ending(put_id(20), "two")
    assert broken([*history, told(30, put_id(20), "superseded", put_id(10))], final) == {
        "superseded by what is weaker"
    }
    assert broken([*history, told(30, put_id(10), "superseded", put_id(15))], final) == {
        "superseded by nobody's write"
    }


def test_a_command_pending_for_ever_is_lost() -> None:
    history = [write(10, "one"), told(1001, put_id(10), "pending")]
    assert broken(history, ending(put_id(10), "one")) == {"accepted write lost"}


def test_a_write_is_after_the_version_that_its_client_named() -> None:
    for header in ("if_match", "read_after"):
        history = [write(10, "one", **{header: put_id(15)})]
        assert broken(history, ending(put_id(10), "one")) == {"write not after what its client saw"}


def test_at_most_one_of_the_writes_conditional_on_one_version_is_applied() -> None:
    first, second, third = put_id(10), put_id(20), put_id(30)
    history = [
        write(10, "one"),
        read(12, first, "one"),
        write(20, "two", if_match=first),
        write(30, "three", if_match=first),
    ]
    assert broken(history, ending(second, "two", rejected=(third,))) == set()
    assert broken(history, ending(third, "three")) == {"two writes passed one condition"}
    assert broken([*history, told(40, third, "applied")], ending(second, "two", rejected=(third,)))


def test_a_condition_that_held_can_not_reject() -> None:
    first, second = put_id(10), put_id(20)
    history = [write(10, "one"), read(12, first, "one"), write(20, "two", if_match=first)]
    final = ending(first, "one", rejected=(second,))
    assert broken(history, final) == {"rejected without a fault"}
    unread = [history[0], history[2]]
    assert broken(unread, final) == set(), "the first write may have arrived later"
    read_later = [*unread, read(30, first, "one")]
    assert broken(read_later, final) == set(), "it may have arrived between write and read"
    unheard = write(15, "unheard", status=503, code="unavailable")
    assert broken([*history, unheard], ending(put_id(16), "unheard", rejected=(second,))) == set()


def test_ids_are_given_once() -> None:
    history = [write(10, "one"), write(20, "two", command_id=put_id(10))]
    assert "id given twice" in broken(history, ending(put_id(10), "one"))


def test_a_repeated_idempotency_key_is_the_same_item() -> None:
    first = write(10, "one", kind="create", command_id=create_id(10), idempotency_key="k", key="1")
    again = replace(first, began=12, ended=13)
    assert broken([first, again], ending(create_id(10), "one")) == set()
    second = replace(again, command_id=create_id(12))
    final = ending(create_id(10), "one")
    assert broken([first, second], final) == {"repetition made another command"}
    early = replace(first, key=None, command_id=None, status=409, code="idempotency_in_flight")
    assert broken([early, again], ending(create_id(10), "one")) == set()
    other = replace(second, key="2")
    final = Final(
        {("cities", key): Row(create_id(at), {"name": "one"}) for key, at in (("1", 10), ("2", 12))}
    )
    assert broken([first, other], final) == {"repetition made another item"}


def test_an_open_post_is_found_again_at_the_key_that_the_server_made() -> None:
    history = [
        write(10, "one", kind="create", key=None, status=0),
        read(12, create_id(10), "one", key="77"),
    ]
    final = Final({("cities", "77"): Row(create_id(10), {"name": "one"})}, at=1000)
    assert broken(history, final) == set()


def test_a_kept_history_is_the_same_when_it_is_read(tmp_path: Path) -> None:
    history = [write(10, "one"), read(12, put_id(10), "one"), told(14, put_id(10), "applied")]
    final = Final({PLACE: Row(put_id(10), {"name": "one"})}, {("cities", "2"): put_id(3)},
                  frozenset({put_id(4)}), 99.5)  # fmt: skip
    write_history(tmp_path / "run.ndjson", history, final)
    assert read_history(tmp_path / "run.ndjson") == (history, final)
