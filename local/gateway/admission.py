"""Remembers which callers the emulator has let in, so that a cache hit lets nobody else in.

On AWS the authorizer and the API key are checked before the cache is looked at. Here the emulator
checks them, and a hit never reaches it. So a hit counts only for a caller whom the emulator has let
through on the same method a moment ago; anybody else's request is sent on and judged there. One
difference to AWS remains: a hit draws nothing from the usage plan's rate and quota.
"""

import hashlib
from collections import OrderedDict

from local.gateway.deployed import Method
from local.gateway.messages import Incoming

# How long a revoked key or token still sees cached answers; API Gateway's own authorizer cache
# keeps its verdicts for 300 s by default.
ADMITTED_SECONDS = 30.0
_MAX_CALLERS = 10_000

_CREDENTIAL_HEADERS = ("authorization", "x-api-key")
# Of other authorizers (a function, IAM) the gateway can't tell what they look at.
_RECOGNISABLE = frozenset({"NONE", "COGNITO_USER_POOLS"})


class Admissions:
    """The callers let in lately, per method. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        """Nobody is known yet."""
        self._until: OrderedDict[tuple[str, str, bytes], float] = OrderedDict()

    def covers(self, method: Method, request: Incoming, *, now: float) -> bool:
        """Whether the request may be answered without asking the emulator."""
        if method.authorization == "NONE" and not method.needs_api_key:
            return True
        return self._until.get(_caller(method, request), 0.0) > now

    def note(self, method: Method, request: Incoming, *, now: float) -> None:
        """The emulator has just let this caller through to the method's integration."""
        if method.authorization not in _RECOGNISABLE:
            return
        caller = _caller(method, request)
        self._until[caller] = now + ADMITTED_SECONDS
        self._until.move_to_end(caller)
        while len(self._until) > _MAX_CALLERS:
            self._until.popitem(last=False)

    def forget(self) -> None:
        """After a redeployment everybody is judged anew."""
        self._until.clear()


def _caller(method: Method, request: Incoming) -> tuple[str, str, bytes]:
    digest = hashlib.sha256()
    for name in _CREDENTIAL_HEADERS:
        value = request.headers.get(name)
        # The length keeps two headers from being read as one longer one.
        digest.update(f"{-1 if value is None else len(value)}:{value or ''}".encode())
    return method.resource_id, method.http_method, digest.digest()
