"""The exit codes of the commands: a contract with scripts, documented in docs/cli.md."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The meanings of the exit codes."""

    #: Success, without findings.
    OK = 0
    #: The command has done its work and has findings: drift, missed objects.
    FOUND = 1
    #: Wrong usage, or a setting is missing; the command has not started any work.
    USAGE = 2
    #: Not possible in the current state; a repetition can't help.
    REFUSED = 3
    #: A server did not answer, or refused temporarily; a repetition may help.
    UNAVAILABLE = 4
    #: Done, but something waits or has failed, and the output names it; or no command was selected;
    #: or the archive is incomplete.
    INCOMPLETE = 5
    #: The operator did not confirm; no change was made.
    DECLINED = 6
    #: A defect of Forebay.
    DEFECT = 70
    #: Stopped by Ctrl-C or SIGTERM; long work can be resumed.
    STOPPED = 130
