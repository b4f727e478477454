"""The exit codes: a contract with scripts, documented in docs/cli.md."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's end means."""

    #: Done, and nothing is wrong.
    OK = 0
    #: The command did its work and found what it looks for: drift, missed objects.
    FOUND = 1
    #: Wrong usage, or a setting is missing: nothing was begun.
    USAGE = 2
    #: It can't be done as things are; trying the same again can't help.
    REFUSED = 3
    #: A server did not answer, or refused for now; trying again may help.
    UNAVAILABLE = 4
    #: Done, but for something that still waits or failed, or nothing was selected at all; the
    #: output names it.
    INCOMPLETE = 5
    #: The operator was asked and said no; nothing was changed.
    DECLINED = 6
    #: A defect of ours.
    DEFECT = 70
    #: Stopped by Ctrl-C or SIGTERM; long work can be resumed.
    STOPPED = 130
