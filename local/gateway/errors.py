"""The gateway's errors, apart from the answers that it passes on."""

from local.errors import LocalStackError


class EmulatorUnreachableError(LocalStackError):
    """The gateway can't connect to the emulator; no request was sent."""


class NotDeployedError(LocalStackError):
    """The emulator has no such API, or the API has no such stage."""


class HungUpError(Exception):
    """The emulator closed the connection early; the request may have been carried out."""


class IntegrationTimeoutError(Exception):
    """The integration did not answer within its `timeoutInMillis`."""
