"""The error tree of the core; each class states whether a retry can help.

ForebayError
├── DeclarationError        a resource is declared wrongly: only a change of its file helps
├── SettingsError           a function or tool is configured wrongly
├── PermanentError          the same input always fails the same way
│   ├── InvalidLineError    an archive line is not a command of a known format
│   └── BodyError           a command's body does not fit the resource's table
└── TransientError          retry later: no data was changed or lost
    ├── UnacknowledgedError a delivery stream did not acknowledge some lines
    ├── NotYetVisibleError  a version that the client has seen has not arrived here yet
    ├── UnsettledError      a command waits for a command that it depends on
    └── HeldError           needs a newer release of this code (a newer schema version)
"""

from __future__ import annotations

from collections.abc import Collection


class ForebayError(Exception):
    """Base of all errors that the core raises deliberately."""


class DeclarationError(ForebayError):
    """A resource is declared wrongly; the message names class and field."""


class SettingsError(ForebayError):
    """A process is configured wrongly; the message names the variable."""


class PermanentError(ForebayError):
    """A retry with the same input can't help."""


class InvalidLineError(PermanentError):
    """An invalid line of an archive object: `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BodyError(PermanentError):
    """A command's body doesn't fit its resource; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TransientError(ForebayError):
    """A later retry may help; no data has been changed."""


class UnacknowledgedError(TransientError):
    """A delivery stream did not acknowledge some of the lines; these may be stored nevertheless."""

    def __init__(self, indexes: Collection[int], reason: str | None = None) -> None:
        """Create the error.

        Args:
            indexes: of the lines.
            reason: the stream's last error, if it gave one.
        """
        super().__init__(reason or f"{len(indexes)} lines were not acknowledged")
        self.indexes = indexes
        self.reason = reason


class NotYetVisibleError(TransientError):
    """A version that the client has seen is visible neither here nor on the primary."""


class UnsettledError(TransientError):
    """A command waits for a command that it depends on."""


class HeldError(TransientError):
    """A command needs a newer release of the code, and is held for it."""
