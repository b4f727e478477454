"""The checker finds every kind of broken promise about patches, conditions and increments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.history.checker import check
from tests.history.operations import (
    Edited,
    Edits,
    Final,
    Operation,
    read_history,
    write_history,
)
from tests.history.test_checker import PLACE, put_id, told, write

ITEM = {"name": "made", "timezone": "made", "population": 5}
#: A patch, two conditional patches of one state, a sum that passed and a sum that failed.
NAMED, FIRST, SECOND, ADDED, TAKEN = map(put_id, (20, 30, 31, 40, 50))


def patch(at: float, sent: Mapping[str, Any], **said: Any) -> Operation:
    return write(at, kind="patch", sent=dict(sent), **said)


def seen(at: float, body: Mapping[str, Any], tag: str = '"tag"', **said: Any) -> Operation:
    """A read of the item, with its entity tag."""
    return write(
        at, kind="read", command_id=None, sent=None, status=200, got=body, shown_tag=tag, **said
    )


@dataclass
class Run:
    """A run, and what its end must be."""

    history: list[Operation]
    values: dict[str, Any]
    fields: dict[str, str]
    passed: dict[str, tuple[str, dict[str, Any] | None]]
    rejected: frozenset[str]

    @property
    def final(self) -> Final:
        archived: list[Mapping[str, Any]] = [
            {
                "id": one.command_id, "op": one.kind, "resource": "cities", "key": 1, "schema": 1,
                "by": "any", "trace": None, "body": one.sent, "amends": None, "condition": None,
            }
            for one in self.history
            if one.is_acknowledged
        ]  # fmt: skip
        keys = {PLACE: Edited(self.values, put_id(10), None, self.fields)}
        return Final({}, {}, self.rejected, 1000, Edits(keys, archived, self.passed))


def clean_run() -> Run:
    tag = f'"{NAMED}-0123456789abcdef"'
    patched = {**ITEM, "name": "patched"}
    history = [
        write(10, kind="put", sent=ITEM),
        patch(20, {"name": "patched"}),
        seen(25, patched, tag, read_after=NAMED),
        patch(30, {"population": 6}, if_match=NAMED, tag=tag),
        patch(31, {"population": 6}, if_match=NAMED, tag=tag, client="bert"),
        patch(40, {"population": {"$increment": -4}}),
        patch(50, {"population": {"$increment": -4}}),
        seen(60, {**patched, "population": 2}, '"other"'),
        told(1001, NAMED, "applied"),
        told(1002, FIRST, "superseded", ADDED),
        told(1003, SECOND, "rejected"),
        told(1004, ADDED, "applied"),
        told(1005, TAKEN, "rejected"),
    ]
    return Run(
        history,
        {**patched, "population": 2},
        {"name": NAMED, "population": ADDED},
        {FIRST: (FIRST, None), ADDED: (ADDED, {"population": 2})},
        frozenset({SECOND, TAKEN}),
    )


def broken(history: Sequence[Operation], final: Final) -> set[str]:
    return {violation.what for violation in check(history, final)}


def with_(run: Run, old: Operation, new: Operation) -> list[Operation]:
    return [new if one is old else one for one in run.history]


def test_a_run_that_kept_all_promises_is_clean() -> None:
    run = clean_run()
    assert check(run.history, run.final) == []


def test_a_lost_patch_is_found() -> None:
    run = clean_run()
    lost = replace(run, values={**run.values, "name": "made"}, fields={"population": ADDED})
    assert broken(run.history, lost.final) == {"the state is not the model's"}
    archived = [one for one in run.final.edits.archived if one["id"] != NAMED]
    final = replace(run.final, edits=replace(run.final.edits, archived=archived))
    assert "accepted write lost" in broken(run.history, final)


def test_a_command_in_the_archive_that_no_client_sent_is_found() -> None:
    run = clean_run()
    without = [one for one in run.history if one.command_id != ADDED]
    assert "value never written" in broken(without, run.final)
    unheard = patch(40, {"population": {"$increment": -4}}, status=503, command_id=None)
    assert broken([*without, unheard], run.final) == set(), "it was stored without an answer"


def test_a_sum_that_lost_an_update_is_found() -> None:
    run = clean_run()
    # The increment was added to the value before the compare-and-set.
    wrong = replace(
        run,
        values={**run.values, "population": 1},
        passed={**run.passed, ADDED: (ADDED, {"population": 1})},
    )
    history = [one for one in run.history if one.began != 60]
    assert broken(history, wrong.final) == {"update lost"}


def test_two_writes_that_passed_one_condition_are_found() -> None:
    run = clean_run()
    both = replace(run, passed={**run.passed, SECOND: (SECOND, None)}, rejected=frozenset({TAKEN}))
    assert "two writes passed one condition" in broken(run.history, both.final)


@pytest.mark.parametrize(("command_id", "what"), [
    (NAMED, "rejected without a fault"),
    (ADDED, "not decided once"),
])  # fmt: skip
def test_a_rejection_that_can_not_be_is_found(command_id: str, what: str) -> None:
    run = clean_run()
    wrong = replace(run, rejected=run.rejected | {command_id})
    assert what in broken(run.history, wrong.final)


def test_a_decided_command_without_a_decision_is_found() -> None:
    run = clean_run()
    wrong = replace(run, rejected=frozenset({SECOND}))
    assert "not decided once" in broken(run.history, wrong.final)


def test_a_status_that_is_not_the_models_is_found() -> None:
    run = clean_run()
    (status,) = (one for one in run.history if one.began == 1001)
    wrong = replace(status, fate="superseded", superseded_by=ADDED)
    assert broken(with_(run, status, wrong), run.final) == {"the status is not the model's"}


def test_a_rejection_that_was_another_status_before_is_found() -> None:
    run = clean_run()
    before = told(70, TAKEN, "superseded", ADDED)
    assert broken([*run.history, before], run.final) == {"status turned"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"population": -1}, "below the bound"),
        ({"name": "another"}, "value never written"),
        ({"name": "made"}, "older than asked"),
    ],
)
def test_a_value_that_can_not_be_read_is_found(change: Mapping[str, Any], what: str) -> None:
    run = clean_run()
    (read,) = (one for one in run.history if one.began == 25)
    wrong = replace(read, got={**ITEM, "name": "patched", **change})
    assert broken(with_(run, read, wrong), run.final) == {what}


def test_the_value_of_a_rejected_write_may_not_be_read() -> None:
    run = clean_run()
    sent = {"name": "failed"}
    failed = patch(55, sent, if_match=NAMED, tag='"any"')
    run = replace(
        run, history=[*run.history, failed], rejected=run.rejected | {str(failed.command_id)}
    )
    assert check(run.history, run.final) == []
    read = seen(58, {**run.values, **sent}, '"failed"')
    assert broken([*run.history, read], run.final) == {"rejected write applied"}


def test_one_tag_has_one_content() -> None:
    run = clean_run()
    read = seen(62, {**run.values, "population": 5}, '"other"')
    assert broken([*run.history, read], run.final) == {"one tag, two contents"}


def test_a_kept_history_is_the_same_when_it_is_read(tmp_path: Path) -> None:
    run = clean_run()
    write_history(tmp_path / "run.ndjson", run.history, run.final)
    assert read_history(tmp_path / "run.ndjson") == (run.history, run.final)
