"""Turn calls that AWS did not answer into findings."""

from __future__ import annotations

from collections.abc import Iterator

from infra.preflight.account import DeniedError, InactiveError, MissingError, UnansweredError
from infra.preflight.findings import Finding, State


def collect(check: str, subject: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings of a check up to the first call without an answer, and one for that call.

    Raises:
        CredentialsError: no call can succeed.
    """
    try:
        yield from findings
    except DeniedError as denied:
        detail = f"not checked: the credentials lack the permission {denied.action}"
        next_step = f"allow {denied.action} and run the check again"
        yield Finding(State.UNKNOWN, check, subject, detail, next_step)
    except InactiveError as inactive:
        detail = f"the account may not use the service yet: {inactive}"
        next_step = "finish the sign-up of the account, and wait until AWS has activated it"
        yield Finding(State.WILL_FAIL, check, subject, detail, next_step)
    except (MissingError, UnansweredError) as error:
        detail = f"not checked: AWS answered with an error: {error}"
        yield Finding(State.UNKNOWN, check, subject, detail, "try again")
