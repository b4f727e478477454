"""Record which callers the emulator has authorized, so that a cache hit bypasses no check.

On AWS the authorizer and the API key are checked before the cache is read. Here the emulator checks
them, and a cache hit never reaches it. So the cache answers only a caller whom the emulator has
recently authorized for the same method; all other requests go to the emulator. One difference from
AWS remains: a hit does not count against the usage plan's rate and quota.
"""

import hashlib
from collections import OrderedDict

from local.gateway.deployed import Method
from local.gateway.messages import Incoming

# How long a revoked key or token still gets cached answers; API Gateway's own authorizer cache
# keeps its results for 300 s by default.
ADMITTED_SECONDS = 30.0
_MAX_CALLERS = 10_000

_CREDENTIAL_HEADERS = ("authorization", "x-api-key")
# The gateway doesn't know which parts of a request other authorizers (a function, IAM) read.
_RECOGNISABLE = frozenset({"NONE", "COGNITO_USER_POOLS"})


class Admissions:
    """The recently authorized callers, per method. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        """Begin without any authorized caller."""
        self._until: OrderedDict[tuple[str, str, bytes], float] = OrderedDict()

    def covers(self, method: Method, request: Incoming, *, now: float) -> bool:
        """Return whether the cache may answer the request without the emulator."""
        if method.authorization == "NONE" and not method.needs_api_key:
            return True
        return self._until.get(_identify_caller(method, request), 0.0) > now

    def record(self, method: Method, request: Incoming, *, now: float) -> None:
        """Record that the emulator has just let this caller through to the method's integration."""
        if method.authorization not in _RECOGNISABLE:
            return
        caller = _identify_caller(method, request)
        self._until[caller] = now + ADMITTED_SECONDS
        self._until.move_to_end(caller)
        while len(self._until) > _MAX_CALLERS:
            self._until.popitem(last=False)


def _identify_caller(method: Method, request: Incoming) -> tuple[str, str, bytes]:
    digest = hashlib.sha256()
    for name in _CREDENTIAL_HEADERS:
        value = request.headers.get(name)
        # The length distinguishes two headers from one longer header.
        digest.update(f"{-1 if value is None else len(value)}:{value or ''}".encode())
    return method.resource_id, method.http_method, digest.digest()
