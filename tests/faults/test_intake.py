"""Firehose and S3 refuse, or the write function dies between acknowledgement and answer."""

import re
import time

from forebay.archive.layout import COMMANDS_PREFIX
from tests.fixtures.emulator import wait_until
from tests.fixtures.faults import LONG_SECONDS, Sent, lasting
from tests.fixtures.faulty import FaultyStack

PART = "intake"


#: Longer than a request takes: a request due this long before a fault's end was sent during it.
_REQUEST_SECONDS = 8
_KILLS = 10


def direct(stack: FaultyStack) -> set[str]:
    """The first command ids of the objects that the write function has written itself."""
    matches = (re.search(r"/direct-(.+)\.gz$", key) for key in stack.keys(COMMANDS_PREFIX))
    return {match[1] for match in matches if match}


def test_firehose_throttles(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    before = direct(stack)
    with stack.fault(
        "Firehose throttling", "nine of ten calls are refused with 503", part=PART
    ) as watched:
        stack.set_firehose_faults(throttle=0.9)
        time.sleep(lasting(LONG_SECONDS))
        stack.set_firehose_faults()
        watched.ends()
        watched.fault.remark = f"{len(direct(stack) - before)} writes went straight to the archive"
    assert direct(stack) - before


def test_firehose_is_down(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    before = direct(stack)
    with stack.fault(
        "Firehose down", "half of the time 500, half of it cut connections", part=PART
    ) as watched:
        for down in ("error", "reset"):
            stack.set_firehose_faults(down=down)
            time.sleep(lasting(LONG_SECONDS) / 2)
        stack.set_firehose_faults()
        watched.ends()
        watched.fault.remark = f"{len(direct(stack) - before)} writes went straight to the archive"
    during = {
        one.command_id
        for one in watched.traffic.accepted
        if watched.began < one.at < watched.ended - _REQUEST_SECONDS
    }
    assert during, "it lasted too short a time"
    assert during <= direct(stack), "nothing else could have taken them"


def test_s3_answers_503(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    bucket = stack.deployed.archive_bucket
    with stack.fault(
        "S3 5xx",
        "every call for the archive's objects is answered 503, to Firehose and functions",
        part=PART,
    ) as watched:
        stack.s3_proxy.refuse = lambda _, path: path.startswith(f"/{bucket}")
        time.sleep(lasting(LONG_SECONDS))
        stack.s3_proxy.refuse = None
        watched.ends()
        watched.fault.remark = f"{stack.s3_proxy.refused} calls refused"
    assert stack.s3_proxy.refused > 0


def test_firehose_and_s3_are_down_at_once(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    bucket = stack.deployed.archive_bucket
    with stack.fault(
        "Firehose and S3 down at once", "500 from the one, 503 from the other", part=PART
    ) as watched:
        stack.set_firehose_faults(down="error")
        stack.s3_proxy.refuse = lambda _, path: path.startswith(f"/{bucket}")
        time.sleep(lasting(15))
        stack.s3_proxy.refuse = None
        stack.set_firehose_faults()
        watched.ends()
        watched.fault.remark = "a 503 says that the write was not accepted"
    during = [
        one
        for one in watched.traffic.sent
        if watched.began < one.at < watched.ended - _REQUEST_SECONDS
    ]
    assert {one.status for one in during} == {503}


def test_a_write_function_killed_after_firehose_has_acknowledged(
    faulty_stack: FaultyStack,
) -> None:
    stack = faulty_stack
    with stack.fault(
        "write function killed (-9) after Firehose acknowledged",
        "a proxy holds Firehose's answer back and kills every instance instead",
        part=PART,
    ) as watched:
        kills: list[int] = []
        stack.firehose_proxy.answered = lambda: kills.append(stack.kill_workers("write"))
        wait_until(lambda: len(kills) >= _KILLS, "answers were held back")
        stack.firehose_proxy.answered = None
        watched.ends()
        watched.fault.remark = f"{len(kills)} answers held back, {sum(kills)} instances killed"
    unsure = [one for one in watched.traffic.sent if one.status != 202]
    assert unsure, "somebody must have been told that it failed"
    watched.fault.remark += f"; {stored(stack, unsure)} of {len(unsure)} failed writes were stored"
    stack.results.add(watched.fault)


def stored(stack: FaultyStack, unsure: list[Sent]) -> int:
    """The number of applied writes with an error as their answer."""
    keys = ", ".join(str(one.city["geonameid"]) for one in unsure)
    ((count,),) = stack.as_superuser(f"SELECT count(*) FROM cities WHERE geonameid IN ({keys})")
    return int(count)
