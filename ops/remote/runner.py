"""The runner of an environment: starts a command, follows its log, and stops it.

The runner is a project of CodeBuild in the network of the environment's database
(infra/components/runner.py). A build is one command; its log is a stream of CloudWatch Logs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from ops.errors import RefusedError, StoppedError, UnavailableError
from ops.remote.request import END_MARK, ERROR_MARK, VARIABLE

_POLL_SECONDS: Final = 2.0
#: The last lines of a log may arrive after the end of the build.
_LAST_LINES_SECONDS: Final = 30.0
#: Begins CodeBuild's own lines.
_BUILD_MARK: Final = "[Container]"
_RUNNING: Final = "IN_PROGRESS"


@dataclass(frozen=True)
class Runner:
    """The runner of one environment. Errors of AWS pass as botocore's exceptions."""

    codebuild: Any
    logs: Any
    project: str
    #: Seconds between two questions for the state and the log.
    poll_seconds: float = _POLL_SECONDS
    last_lines_seconds: float = _LAST_LINES_SECONDS

    def start(self, request: str) -> str:
        """Start the requested command, and return the id of its build.

        Raises:
            RefusedError: the environment has no runner.
        """
        variable = {"name": VARIABLE, "value": request, "type": "PLAINTEXT"}
        try:
            answer = self.codebuild.start_build(
                projectName=self.project, environmentVariablesOverride=[variable]
            )
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "ResourceNotFoundException":
                raise RefusedError(
                    f"there is no runner {self.project}: set operations.runner = true in the "
                    "environment's file, and deploy; or check the account and region"
                ) from exc
            raise
        build_id: str = answer["build"]["id"]
        return build_id

    def follow(
        self, build_id: str, write: Callable[[str], None], write_error: Callable[[str], None]
    ) -> int:
        """Write the command's lines as they arrive, until it has ended; return its exit code.

        Args:
            build_id: the id of the build.
            write: takes a line of the command's standard output.
            write_error: takes a line of its standard error.

        Raises:
            StoppedError: the build was stopped.
            UnavailableError: the build ended before the command did.
        """
        log = _Log(self.logs, write, write_error)
        while True:
            build = self._describe(build_id)
            log.read(build.get("logs", {}))
            if build["buildStatus"] != _RUNNING:
                break
            time.sleep(self.poll_seconds)
        deadline = time.monotonic() + self.last_lines_seconds
        while log.exit_code is None and time.monotonic() < deadline:
            time.sleep(self.poll_seconds)
            log.read(build.get("logs", {}))
        if log.exit_code is not None:
            return log.exit_code
        if build["buildStatus"] == "STOPPED":
            raise StoppedError(f"the build {build_id} was stopped")
        raise UnavailableError(
            f"the build {build_id} ended with {build['buildStatus']}, and its log has no exit "
            "code of the command; see the log in the console of CodeBuild"
        )

    def stop(self, build_id: str) -> None:
        """Stop a build; a command that it runs is killed."""
        self.codebuild.stop_build(id=build_id)

    def _describe(self, build_id: str) -> dict[str, Any]:
        (build,) = self.codebuild.batch_get_builds(ids=[build_id])["builds"]
        return dict(build)


class _Log:
    """Reads a log once, from its begin."""

    def __init__(
        self,
        logs: Any,  # noqa: ANN401
        write: Callable[[str], None],
        write_error: Callable[[str], None],
    ) -> None:
        self._logs = logs
        self._write = write
        self._write_error = write_error
        self._position: dict[str, str] = {}
        self.exit_code: int | None = None

    def read(self, place: dict[str, Any]) -> None:
        """Write the lines that have arrived since the last call."""
        group, stream = place.get("groupName"), place.get("streamName")
        if not group or not stream:
            return
        while True:
            try:
                page = self._logs.get_log_events(
                    logGroupName=group, logStreamName=stream, startFromHead=True, **self._position
                )
            except ClientError as exc:
                if exc.response["Error"]["Code"] == "ResourceNotFoundException":
                    return  # the build has not written a line yet
                raise
            for event in page["events"]:
                self._write_lines(event["message"])
            # At the end of the stream, CloudWatch returns the same token again.
            following = page["nextForwardToken"]
            if self._position.get("nextToken") == following:
                return
            self._position = {"nextToken": following}

    def _write_lines(self, message: str) -> None:
        for line in message.rstrip("\n").split("\n"):
            if line.startswith(END_MARK):
                self.exit_code = int(line.removeprefix(END_MARK))
            elif line.startswith(ERROR_MARK):
                self._write_error(line.removeprefix(ERROR_MARK))
            elif not line.startswith(_BUILD_MARK):
                self._write(line)
