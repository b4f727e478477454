"""`forebay remote` against CodeBuild and CloudWatch Logs of the emulator, which runs no builds."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from ops.errors import RefusedError, StoppedError, UnavailableError
from ops.remote.request import END_MARK, encode_request
from ops.remote.runner import Runner
from tests.fixtures.emulator import Emulator


@pytest.fixture
def runner(emulator: Emulator) -> Iterator[Runner]:
    """A runner with builds that end at once, without any output."""
    codebuild, name = emulator.client("codebuild"), f"forebay-t{uuid.uuid4().hex[:8]}-runner"
    codebuild.create_project(
        name=name,
        source={"type": "NO_SOURCE", "buildspec": "version: 0.2"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={
            "type": "ARM_CONTAINER",
            "image": "aws/codebuild/amazonlinux-aarch64-standard:3.0",
            "computeType": "BUILD_GENERAL1_LARGE",
        },
        serviceRole="arn:aws:iam::000000000000:role/any",
    )
    yield Runner(
        codebuild, emulator.client("logs"), name, poll_seconds=0.05, last_lines_seconds=0.5
    )
    codebuild.delete_project(name=name)


def log(runner: Runner, build_id: str, *messages: str) -> None:
    """Write the messages to the build's log."""
    (build,) = runner.codebuild.batch_get_builds(ids=[build_id])["builds"]
    place: Any = {
        "logGroupName": build["logs"]["groupName"],
        "logStreamName": build["logs"]["streamName"],
    }
    if not runner.logs.describe_log_groups(logGroupNamePrefix=place["logGroupName"])["logGroups"]:
        runner.logs.create_log_group(logGroupName=place["logGroupName"])
    runner.logs.create_log_stream(**place)
    now = round(time.time() * 1000)
    runner.logs.put_log_events(
        **place,
        logEvents=[{"timestamp": now + at, "message": text} for at, text in enumerate(messages)],
    )


def test_the_output_and_the_exit_code_are_those_of_the_command(runner: Runner) -> None:
    build_id = runner.start(encode_request(["verify", "--at", "now"]))
    log(
        runner,
        build_id,
        "[Container] 2026/11/30 15:00:00 Entering phase BUILD\n",
        "[stderr] verify: 10/10 objects\n",
        "verify: 1 difference\n",
        "two lines\nin one event\n",
        f"{END_MARK}1\n",
        "[Container] 2026/11/30 15:00:01 Phase complete: BUILD State: FAILED\n",
    )
    lines: list[str] = []
    errors: list[str] = []

    assert runner.follow(build_id, lines.append, errors.append) == 1
    assert errors == ["verify: 10/10 objects"]
    assert lines == ["verify: 1 difference", "two lines", "in one event"]


def test_many_lines_are_written_once_and_in_order(runner: Runner) -> None:
    build_id = runner.start(encode_request(["status"]))
    log(runner, build_id, *(f"line {number}" for number in range(2_500)), f"{END_MARK}0")
    lines: list[str] = []

    assert runner.follow(build_id, lines.append, print) == 0
    assert lines == [f"line {number}" for number in range(2_500)]


def test_a_build_that_ends_before_its_command_fails(runner: Runner) -> None:
    build_id = runner.start(encode_request(["status"]))

    with pytest.raises(UnavailableError, match="SUCCEEDED"):
        runner.follow(build_id, print, print)


def test_a_stopped_build_is_reported(runner: Runner) -> None:
    build_id = runner.start(encode_request(["replay", "--yes"]))
    runner.stop(build_id)

    with pytest.raises(StoppedError, match=build_id):
        runner.follow(build_id, print, print)


def test_an_environment_without_a_runner_is_named_with_its_setting(runner: Runner) -> None:
    absent = Runner(runner.codebuild, runner.logs, "forebay-moon-runner")

    with pytest.raises(RefusedError, match=r"forebay-moon-runner: set operations\.runner"):
        absent.start(encode_request(["status"]))
