"""Why a load gives up, each as one sentence.

LoadError
├── UnreachableError  the API is not there, or has not let anything through for too long
└── RefusedError      the API refuses a whole request, and would refuse it again
"""


class LoadError(Exception):
    """Base of everything that ends a load before its end."""


class UnreachableError(LoadError):
    """Trying again was of no use for as long as we were patient."""


class RefusedError(LoadError):
    """Trying again would be of no use."""
