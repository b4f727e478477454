"""The error tree of the core; each class says whether trying again can help.

ForebayError
├── DeclarationError        a resource is declared wrongly: fix the file, nothing else helps
├── SettingsError           a function or tool is configured wrongly
├── PermanentError          the same input fails the same way for ever
│   ├── UnreadableLine      an archive line is no command of a format we know
│   └── BodyError           a command's body does not fit the resource's table
└── TransientError          try again later: nothing was changed, nothing is lost
    ├── NotAcceptedError    neither Firehose nor the archive took the records
    ├── NotYetVisibleError  a version that the client has seen has not arrived here yet
    └── HeldError           needs a newer release of this code (a schema version from the future)
"""

from __future__ import annotations


class ForebayError(Exception):
    """Base of everything that the core raises on purpose."""


class DeclarationError(ForebayError):
    """A resource is declared wrongly; the message names class and field."""


class SettingsError(ForebayError):
    """A process is configured wrongly; the message names the variable."""


class PermanentError(ForebayError):
    """Trying the same input again can't help."""


class UnreadableLine(PermanentError):  # noqa: N818 - it is a finding as much as an error
    """An archive line that is no command: `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BodyError(PermanentError):
    """A command's body doesn't fit its resource; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TransientError(ForebayError):
    """Trying again later may help; nothing has been changed."""


class NotAcceptedError(TransientError):
    """Neither the delivery stream nor the archive acknowledged the records."""


class NotYetVisibleError(TransientError):
    """A version that the client knows of is visible neither here nor on the primary."""


class HeldError(TransientError):
    """A command needs code that is newer than this; it is kept for it."""
