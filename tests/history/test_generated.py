"""The checker reports no violations in legal histories, and finds violations added to them."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from forebay.ids import join_id
from tests.history.checker import check, strength
from tests.history.legal import legal_histories
from tests.history.operations import Final, Operation, Row

Run = tuple[list[Operation], Final]

# Many histories lack the operations that a test wants to change.
SLOW = settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def broken(history: Sequence[Operation], final: Final) -> set[str]:
    return {violation.what for violation in check(history, final)}


def chosen(data: st.DataObject, some: Sequence[Operation]) -> Operation:
    assume(some)
    return data.draw(st.sampled_from(some))


def changed(history: Sequence[Operation], old: Operation, new: Operation) -> list[Operation]:
    return [new if one is old else one for one in history]


@given(legal_histories())
@SLOW
def test_a_legal_history_is_clean(run: Run) -> None:
    history, final = run
    assert check(history, final) == []


@given(legal_histories(least=20), st.data())
@SLOW
def test_a_lost_winner_is_found(run: Run, data: st.DataObject) -> None:
    """Remove the final state of an accepted write, and all later operations."""
    history, final = run
    there = {row.version for row in final.rows.values()} | set(final.tombstones.values())
    won = chosen(data, [one for one in history if one.command_id in there and one.is_acknowledged])
    place = won.place
    assert place is not None
    without = replace(
        final,
        rows={at: row for at, row in final.rows.items() if at != place},
        tombstones={at: version for at, version in final.tombstones.items() if at != place},
    )
    during = [one for one in history if one.ended < final.at]
    assert "accepted write lost" in broken(during, without)


@given(legal_histories(least=20), st.data())
@SLOW
def test_a_weaker_write_that_remained_is_found(run: Run, data: st.DataObject) -> None:
    history, final = run
    writes = [one for one in history if one.is_acknowledged and one.sent and not one.faulty]
    weak = chosen(
        data,
        [
            one
            for one in writes
            if one.place and strength(str(one.command_id)) < strength(str(final.version(one.place)))
            and final.version(one.place) in {other.command_id for other in writes}
        ],
    )  # fmt: skip
    assert weak.place is not None
    assert weak.sent is not None
    rows = {**final.rows, weak.place: Row(str(weak.command_id), weak.sent)}
    assert "accepted write lost" in broken(history, replace(final, rows=rows))


@given(legal_histories(least=20), st.data())
@SLOW
def test_a_changed_value_is_found(run: Run, data: st.DataObject) -> None:
    history, final = run
    read = chosen(data, [one for one in history if one.found])
    wrong = replace(read, got={"name": "nobody's"})
    assert "value never written" in broken(changed(history, read, wrong), final)


@given(legal_histories(least=20), st.data())
@SLOW
def test_a_version_without_a_write_is_found(run: Run, data: st.DataObject) -> None:
    history, final = run
    acknowledged = {one.command_id: one for one in history if one.is_acknowledged}
    read = chosen(data, [one for one in history if one.found and one.version in acknowledged])
    wrong = replace(read, version=join_id(1_799_999_999_999, 0))
    assert "value never written" in broken(changed(history, read, wrong), final)


@given(legal_histories(least=20), st.data())
@SLOW
def test_the_refusal_of_a_seen_write_is_found(run: Run, data: st.DataObject) -> None:
    history, final = run
    seen = {one.version for one in history if one.found}
    write = chosen(data, [one for one in history if one.is_acknowledged and one.command_id in seen])
    refused = replace(write, status=422, command_id=None)
    assert "refused write seen" in broken(changed(history, write, refused), final)


@given(legal_histories(least=20), st.data())
@SLOW
def test_a_read_after_that_is_older_is_found(run: Run, data: st.DataObject) -> None:
    history, final = run
    read = chosen(data, [one for one in history if one.found and one.version])
    later = [
        one
        for one in history
        if one.is_acknowledged
        and one.place == read.place
        and one.command_id not in final.rejected
        and strength(str(one.command_id)) > strength(str(read.version))
    ]
    operation = chosen(data, later)
    wrong = replace(read, read_after=operation.command_id)
    assert "older than asked" in broken(changed(history, read, wrong), final)


@given(legal_histories(least=20), st.data())
@SLOW
def test_a_final_status_that_turns_is_found(run: Run, data: st.DataObject) -> None:
    history, final = run
    operation = chosen(data, [one for one in history if one.fate not in (None, "pending")])
    end = max(one.ended for one in history)
    turned = replace(operation, fate="pending", superseded_by=None, began=end + 1, ended=end + 2)
    assert "status turned" in broken([*history, turned], replace(final, at=float("inf")))


@given(legal_histories(least=20), st.data())
@SLOW
def test_a_rejection_without_a_fault_is_found(run: Run, data: st.DataObject) -> None:
    history, final = run
    write = chosen(
        data,
        [one for one in history if one.is_acknowledged and not (one.faulty or one.is_conditional)],
    )
    rejected = final.rejected | {str(write.command_id)}
    assert "rejected without a fault" in broken(history, replace(final, rejected=rejected))
