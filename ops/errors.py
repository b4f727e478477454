"""What ends a command early: a sentence for the operator, and the exit code.

Messages name the object, its state and the next step.

OpsError
├── UsageError        wrong options or a missing setting: nothing was begun
├── RefusedError      can't be done as things are
├── UnavailableError  a server did not answer: try again
├── IncompleteError   done, but for something that the message names
├── DeclinedError     the operator said no
└── StoppedError      stopped by Ctrl-C or SIGTERM
"""

from __future__ import annotations

from typing import ClassVar

from forebay.errors import ForebayError
from ops.exit_codes import ExitCode


class OpsError(ForebayError):
    """Base of what a command ends with on purpose."""

    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED


class UsageError(OpsError):
    """Wrong options, or a setting is missing; names the option and how else to give it."""

    exit_code = ExitCode.USAGE


class RefusedError(OpsError):
    """It can't be done as things are; trying the same again can't help."""


class UnavailableError(OpsError):
    """A server did not answer, or refused for now."""

    exit_code = ExitCode.UNAVAILABLE


class IncompleteError(OpsError):
    """The work is done but for something that the message names."""

    exit_code = ExitCode.INCOMPLETE


class DeclinedError(OpsError):
    """The operator was asked and said no; nothing was changed."""

    exit_code = ExitCode.DECLINED


class StoppedError(OpsError):
    """Stopped by Ctrl-C or SIGTERM; says how to go on."""

    exit_code = ExitCode.STOPPED
