"""The reasons why a load gives up, each as one sentence.

LoadError
├── UnreachableError  the API does not answer, or has accepted no request for too long
└── RefusedError      the API refuses a whole request, and would refuse it again
"""


class LoadError(Exception):
    """Base of all errors that end a load early."""


class UnreachableError(LoadError):
    """Retries failed until the patience ran out."""


class RefusedError(LoadError):
    """A retry would fail again."""
