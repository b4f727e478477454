"""Waits until the database accepts the migration's login.

In the first deployment, the migration is the first to use the database, minutes or seconds after
it was created: its address may not resolve yet, the function's network interface may not pass
packets yet, and its server may not know the permission to log in yet. All of this ends by itself; a
failure of the deployment would delete what was created.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from itertools import count
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from forebay.db import iam
from forebay.db.connect import iterate_logins
from forebay.errors import TransientError
from forebay.log import Log
from forebay.retry import compute_backoff_seconds

#: How long to wait for a database that the environment creates.
IAM_PATIENCE_SECONDS: Final = 120.0
#: For an existing database with a password: it was there before, so an error rarely heals.
PASSWORD_PATIENCE_SECONDS: Final = 30.0
#: The share of the function's remaining time that may pass before the migration begins.
WAITING_SHARE: Final = 0.5
#: Short, because a packet that a new network interface drops is not answered later. A paused server
#: resumes in that time, although the attempt that woke it fails.
CONNECT_TIMEOUT_SECONDS: Final = 10
_FIRST_PAUSE_SECONDS: Final = 1.0
_GREATEST_PAUSE_SECONDS: Final = 10.0
#: libpq's words for what only another address or package changes. It gives no codes for errors of a
#: login.
_LASTING: Final = ("root certificate file", "certificate verify failed", "does not support SSL")
#: In a message of libpq: the server has answered, and refused the login.
_REFUSED: Final = "FATAL"


class LoginError(TransientError):
    """The database did not accept the login in time; no migration ran."""


@dataclass(frozen=True, slots=True)
class _Login:
    """The parts of an address that a message may contain."""

    host: str
    user: str
    uses_iam: bool

    @classmethod
    def of(cls, url: str) -> _Login:
        parameters = conninfo_to_dict(url)
        host = str(parameters.get("host") or "")
        uses_iam = not parameters.get("password") and any(
            iam.parse_region(name) for name in host.split(",")
        )
        return cls(host, str(parameters.get("user") or ""), uses_iam)


def wait_for_login(
    url: str, log: Log, *, remaining_seconds: float, patience_seconds: float | None = None
) -> None:
    """Return as soon as the database accepts a login.

    Args:
        url: the address of the database, with the migration's user.
        log: gets a line for each failed attempt.
        remaining_seconds: until Lambda ends the function.
        patience_seconds: how long to try; by default what fits the kind of login. At most a share
            of the remaining time is used.

    Raises:
        LoginError: no attempt succeeded; the message names the address and the next step.
        psycopg.Error: the error does not heal, such as an invalid address.
        forebay.errors.SettingsError: a token is needed, and there are no credentials to sign it.
    """
    login = _Login.of(url)
    if patience_seconds is None:
        patience_seconds = IAM_PATIENCE_SECONDS if login.uses_iam else PASSWORD_PATIENCE_SECONDS
    started = time.monotonic()
    deadline = started + min(patience_seconds, remaining_seconds * WAITING_SHARE)
    for attempt in count(1):
        error = _log_in(url, timeout_seconds=_limit_timeout(deadline - time.monotonic()))
        seconds = round(time.monotonic() - started, 1)
        if error is None:
            if attempt > 1:
                log.event("login_succeeded", attempts=attempt, seconds=seconds)
            return
        reason = _read_reason(error)
        _report(log, login, reason, attempt, seconds)
        pause = compute_backoff_seconds(
            attempt, first=_FIRST_PAUSE_SECONDS, greatest=_GREATEST_PAUSE_SECONDS
        )
        if time.monotonic() + pause >= deadline:
            raise LoginError(_describe(login, reason, attempt, seconds)) from error
        time.sleep(pause)


def _log_in(url: str, *, timeout_seconds: int) -> psycopg.OperationalError | None:
    """Log in once, with a new token if the login needs one; return an error that may heal."""
    try:
        address = next(iterate_logins(url, environment=os.environ))
        with psycopg.connect(address, connect_timeout=timeout_seconds, autocommit=True):
            return None
    except psycopg.OperationalError as exc:
        if any(words in str(exc) for words in _LASTING):
            raise
        return exc


def _report(log: Log, login: _Login, reason: str, attempt: int, seconds: float) -> None:
    log.event(
        "login_failed",
        level="WARNING",
        attempt=attempt,
        seconds=seconds,
        host=login.host,
        user=login.user,
        reason=reason,
    )


def _limit_timeout(seconds: float) -> int:
    """Limit a time-out to whole seconds from 2, which libpq accepts."""
    return max(2, min(CONNECT_TIMEOUT_SECONDS, int(seconds)))


def _read_reason(error: psycopg.OperationalError) -> str:
    return " ".join(str(error).split())


def _describe(login: _Login, reason: str, attempts: int, seconds: float) -> str:
    if _REFUSED not in reason:
        step = "check that it runs, and that its security group and routes admit the function"
    elif login.uses_iam:
        step = "check `rds-db:connect` of the function's role, and that the user has rds_iam"
    else:
        step = "check user, password and database of the address (database.owner_url or url)"
    return (
        f"the database at {login.host} did not accept the login of {login.user} in {attempts} "
        f"attempts and {seconds:g} s, so nothing was migrated; the last error: {reason}; {step}"
    )
