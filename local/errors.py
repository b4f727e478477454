"""The errors that stop the one-machine stack, each one sentence that names the next step."""

import sys
from collections.abc import Callable


class LocalStackError(Exception):
    """Base of all errors that a command reports as one line before it exits with 1."""


def report(server: str, run: Callable[[], int]) -> int:
    """Run a server of the stack; return its exit code, 1 after an error, which is reported."""
    try:
        return run()
    except LocalStackError as exc:
        sys.stderr.write(f"{server}: {exc}\n")
        return 1


class StateUnusableError(LocalStackError):
    """The state folder is in use or damaged, or its disk has too little room."""


class PortTakenError(LocalStackError):
    """A port that the stack needs is in use."""


class ToolFailedError(LocalStackError):
    """A program failed; the message carries the end of its output."""


class DeclarationsError(LocalStackError):
    """Archived bodies would not fit the declarations, or an upcaster is wrong."""


class MigrationsWaitError(LocalStackError):
    """Pending migrations would drop, rename or narrow something, and have not been accepted."""


class StoppingError(LocalStackError):
    """The step was given up because the stack is being stopped; not a fault of the step."""


class StartTimeoutError(LocalStackError):
    """A server did not become ready in the time it was given."""


class ChildDiedError(LocalStackError):
    """A server ended without a request to stop; the message carries the end of its log."""


class CredentialsMissingError(LocalStackError):
    """A server's environment has no secret access key."""
