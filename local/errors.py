"""What can stop the one-machine stack from running, each as one sentence that names the next step.

LocalStackError
├── StateLockedError     another start holds the state folder
├── StateUnusableError   the state folder holds something that this version can't start from
├── DiskFullError        too little room below the state folder
├── PortTakenError       a port of the stack belongs to somebody else
├── ToolFailedError      a program that should end well (initdb, npm, cdk …) ended badly
├── DeclarationsError    declarations don't fit what was archived
├── MigrationsWaitError  migrations would drop or change data, and wait for a yes
├── StoppingError        a step was given up because the stack is being stopped
├── StartTimeoutError    a server runs but does not become ready
├── ChildDiedError       a server of the stack ended by itself
└── CredentialsMissingError  a server was started without the stack's secret access key
"""


class LocalStackError(Exception):
    """Base of everything that the commands report as one line before they exit with 1."""


class StateLockedError(LocalStackError):
    """Another `make run` uses the same state folder."""


class StateUnusableError(LocalStackError):
    """The state folder is damaged or was written by another version."""


class DiskFullError(LocalStackError):
    """The disk below the state folder has too little room left."""


class PortTakenError(LocalStackError):
    """A port that the stack needs is in use."""


class ToolFailedError(LocalStackError):
    """A program that was run to its end failed; the message carries the end of its output."""


class DeclarationsError(LocalStackError):
    """Archived bodies would not fit the declarations, or an upcaster is wrong."""


class MigrationsWaitError(LocalStackError):
    """Pending migrations would drop, rename or narrow something, and nobody has accepted that."""


class StoppingError(LocalStackError):
    """The step was given up because everything is being stopped; not a fault of its own."""


class StartTimeoutError(LocalStackError):
    """A server did not become ready in the time it was given."""


class ChildDiedError(LocalStackError):
    """A server ended although nobody asked it to; the message carries the end of its log."""


class CredentialsMissingError(LocalStackError):
    """A server's environment has no secret access key."""
