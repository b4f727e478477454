"""Errors that end a command, each with a message for the operator and an exit code.

A message names the object, its state and the next step.

OpsError
├── UsageError        wrong options or a missing setting; no work was started
├── RefusedError      not possible in the current state
├── UnavailableError  a server did not answer; try again
├── IncompleteError   done except for the work that the message names
├── DeclinedError     the operator did not confirm
└── StoppedError      stopped by Ctrl-C or SIGTERM
"""

from __future__ import annotations

from typing import ClassVar

from forebay.errors import ForebayError
from ops.exit_codes import ExitCode


class OpsError(ForebayError):
    """Base of the errors that end a command on purpose."""

    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


class UsageError(OpsError):
    """Wrong options, or a missing setting; the message names the option and its alternatives."""

    exit_code = ExitCode.USAGE


class RefusedError(OpsError):
    """The command is not possible in the current state; a repetition can't help."""


class UnavailableError(OpsError):
    """A server did not answer, or refused temporarily; a repetition may help."""

    exit_code = ExitCode.UNAVAILABLE


class IncompleteError(OpsError):
    """The command is done except for the work that the message names."""

    exit_code = ExitCode.INCOMPLETE


class DeclinedError(OpsError):
    """The operator did not confirm; no change was made."""

    exit_code = ExitCode.DECLINED


class StoppedError(OpsError):
    """Stopped by Ctrl-C or SIGTERM; the message explains how to resume."""

    exit_code = ExitCode.STOPPED
