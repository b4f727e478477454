"""Replay, verify and rebuild on the running stack, with the commands that operators use on AWS."""

from __future__ import annotations

import pytest

from tests.fixtures.operating import Operator
from tests.fixtures.stack import RunningStack, new_city


@pytest.fixture
def operator(stack: RunningStack) -> Operator:
    """An operator's shell that names the stack and has no other settings."""
    settings = stack.settings
    return Operator(
        settings.state, "", {"FOREBAY_STATE": str(settings.state), "FOREBAY_OPS_ENV": "local"}
    )


def test_a_replay_through_its_queue_restores_lost_rows(
    stack: RunningStack, operator: Operator
) -> None:
    stack.empty()
    cities = [new_city() for _ in range(20)]
    reply = stack.send("POST", "/cities", cities)
    assert reply.status == 207
    stack.settle()
    stack.rows("DELETE FROM cities")
    objects = len(stack.keys("commands/"))

    result = operator.done("replay", "--via-queue", "--watch", "--yes")

    assert result["objects"] == objects
    assert result["objects_missing"] == 0
    assert result["applied"] == result["commands"] == 20
    assert stack.rows("SELECT count(*) FROM cities") == [(20,)]
    assert stack.rows("SELECT min(replays) FROM forebay.ledger") == [(1,)]
    assert stack.rows("SELECT state FROM forebay.runs ORDER BY started_at DESC LIMIT 1") == [
        ("done",)
    ]


def test_a_chosen_key_goes_through_the_queue_and_no_other(
    stack: RunningStack, operator: Operator
) -> None:
    stack.empty()
    one, other = new_city(), new_city()
    assert stack.send("POST", "/cities", [one, other]).status == 207
    stack.settle()
    stack.rows("DELETE FROM cities")

    result = operator.done(
        "replay", "--via-queue", "--watch", "--yes", "--key", str(one["geonameid"])
    )

    assert result["applied"] == 1
    assert stack.rows("SELECT geonameid FROM cities") == [(one["geonameid"],)]


def test_verify_reads_the_replica_and_finds_drift(stack: RunningStack, operator: Operator) -> None:
    stack.empty()
    assert stack.send("POST", "/cities", [new_city() for _ in range(20)]).status == 207
    stack.settle()
    version = stack.rows("SELECT _version::text FROM cities ORDER BY _version DESC LIMIT 1")[0][0]
    _replica_has(stack, 20)

    assert operator.done("verify", "--at", version)["agrees"] is True

    stack.rows("DELETE FROM cities WHERE _version = %s", version)
    _replica_has(stack, 19)
    assert operator.done("verify", "--at", version, code=1)["differences"] == 1


def _replica_has(stack: RunningStack, cities: int) -> None:
    while stack.as_superuser("SELECT count(*) FROM cities", on_replica=True) != [(cities,)]:
        pass
