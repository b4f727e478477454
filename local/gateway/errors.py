"""The gateway's errors, apart from the answers that it passes on.

GatewayError
├── EmulatorUnreachableError  the emulator does not answer: start it
├── NotDeployedError          the emulator has no such API or stage: deploy it
├── HungUpError               the emulator closed the connection before it answered
└── IntegrationTimeoutError   the function took longer than its integration allows
"""


class GatewayError(Exception):
    """Base of all errors that the gateway raises itself."""


class EmulatorUnreachableError(GatewayError):
    """The gateway can't connect to the emulator; no request was sent."""


class NotDeployedError(GatewayError):
    """The emulator has no such API, or the API has no such stage."""


class HungUpError(GatewayError):
    """The emulator closed the connection early; the request may have been carried out."""


class IntegrationTimeoutError(GatewayError):
    """The integration did not answer within its `timeoutInMillis`."""
