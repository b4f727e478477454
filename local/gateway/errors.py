"""What can go wrong at the gateway, apart from the answers that it passes on.

GatewayError
├── EmulatorUnreachableError  the emulator does not answer: start it
├── NotDeployedError          the emulator has no such API or stage: deploy it
├── HungUpError               the emulator broke off before it had answered a request
└── IntegrationTimeoutError   the function took longer than its integration allows
"""


class GatewayError(Exception):
    """Base of everything that the gateway raises on purpose."""


class EmulatorUnreachableError(GatewayError):
    """No connection to the emulator; nothing was sent."""


class NotDeployedError(GatewayError):
    """The emulator knows no such API, or the API has no such stage."""


class HungUpError(GatewayError):
    """The emulator closed the connection in the middle; what was asked may have been done."""


class IntegrationTimeoutError(GatewayError):
    """The integration's `timeoutInMillis` has passed without an answer."""
