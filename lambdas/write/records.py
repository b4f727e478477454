"""Idempotency records: a repetition of a request gets the first answer, with the same commands.

The record of a request is stored before its first command is sent, and contains its commands. So an
attempt that dies leaves a record from which a repetition sends the same commands. The draft
draft-ietf-httpapi-idempotency-key-header-07 is followed; docs/adr/0028-idempotency-records.md lists
the decisions that it leaves open.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from forebay.aws.records import Record
from forebay.errors import TransientError
from forebay.intake.commands import Origin
from forebay.log import Log
from forebay.problem import Problem, ProblemError
from lambdas.write.plan import Plan, decode_plan
from lambdas.write.requests import WriteRequest

#: How long an attempt may take before another takes over; more than a call of the function can
#: take, because API Gateway ends it after 29 s.
LOCK_SECONDS: Final = 30.0
#: An attempt that has taken longer leaves its record unfinished: another call could exceed the
#: function's time-out. A repetition then sends the same commands again.
MAX_SECONDS_BEFORE_END: Final = 15.0
UNAVAILABLE_RETRY_SECONDS: Final = 5

#: Headers that change the commands or the answer of a request.
_HEADERS: Final = ("content-type", "content-encoding", "if-none-match", "accept")


class RecordStore(Protocol):
    """The table of records; `forebay.aws.records.RecordTable` describes the methods."""

    def create(self, record: Record, *, now_ms: int) -> Record | None:
        """Store a record, unless an unexpired record has its name; return that record."""

    def take_over(self, record: Record, *, attempt: str, locked_until_ms: int) -> Record | None:
        """Lock an unchanged, unfinished record; return the record if it has changed."""

    def finish(self, record: Record) -> None:
        """Mark a record as finished."""

    def release(self, record: Record, *, attempt: str) -> None:
        """End an attempt's lock."""

    def find(self, name: str, *, now_ms: int) -> Record | None:
        """Return the unexpired record with that name."""


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request with an idempotency key: the name of its record, and its fingerprint."""

    name: str
    fingerprint: bytes

    @classmethod
    def of(cls, request: WriteRequest, origin: Origin) -> Repeatable:
        """Identify a request; its origin must have an idempotency key."""
        owner = origin.by if origin.key_owner is None else origin.key_owner
        name = _digest(f"{owner}\x1f{origin.idempotency_key}")
        # `ascii` is unambiguous, and takes any text.
        content = ascii(
            (
                request.method,
                request.path,
                sorted(request.query.items()),
                [request.headers.get(header) for header in _HEADERS],
                (request.prefer, request.if_match, request.read_after),
                bool(request.event.get("isBase64Encoded")),
            )
        )
        return cls(
            base64.urlsafe_b64encode(name).decode().rstrip("="),
            _digest(f"{content}\n{request.event.get('body') or ''}"),
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """A repeatable request's plan: its own, or the plan of an earlier attempt."""

    plan: Plan
    record: Record
    #: This attempt.
    attempt: str
    started_ms: int
    #: True if an earlier attempt has made the plan.
    is_repetition: bool = False

    @property
    def is_finished(self) -> bool:
        """True if all commands are accepted, so that only the answer is left to send."""
        return self.record.is_finished


class Records:
    """Claims requests, so that one attempt at a time sends the commands of a request."""

    def __init__(
        self,
        store: RecordStore,
        *,
        retention_seconds: int,
        is_required: bool,
        log: Log,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Create the records.

        Args:
            store: the table.
            retention_seconds: how long a record is kept.
            is_required: refuse requests with a key while the table is not available; otherwise
                they are accepted, with what the key guarantees without a table.
            log: gets the table's errors.
            now_ms: the clock.
        """
        self._store = store
        self._retention_seconds = retention_seconds
        self._is_required = is_required
        self._log = log
        self._now_ms = now_ms

    def claim(self, request: Repeatable, plan: Plan) -> Claim | None:
        """Record a plan before its commands are sent, or return the plan that is recorded.

        Returns:
            None if the table is not available and not required.

        Raises:
            ProblemError: the key belongs to another request, an attempt is in progress, or the
                table is not available and required.
        """
        now_ms = self._now_ms()
        answer, lines = plan.encode()
        record = Record(
            name=request.name,
            fingerprint=request.fingerprint,
            attempt=_name_attempt(),
            locked_until_ms=now_ms + round(LOCK_SECONDS * 1000),
            expires_at=now_ms // 1000 + self._retention_seconds,
            answer=answer,
            lines=lines,
        )
        try:
            other = self._store.create(record, now_ms=now_ms)
            if other is None:
                return Claim(plan, record, record.attempt, now_ms)
            return self._follow(request, other, now_ms)
        except TransientError as exc:
            self._report(exc)
            if self._is_required:
                raise ProblemError(_describe_unavailable()) from exc
            return None

    def find(self, request: Repeatable) -> Claim | None:
        """Return the recorded plan of a request that has no commands now.

        An earlier release may have accepted what this release refuses.

        Returns:
            None without a record, or if the table is not available.

        Raises:
            ProblemError: the key belongs to another request, or an attempt is in progress.
        """
        now_ms = self._now_ms()
        try:
            record = self._store.find(request.name, now_ms=now_ms)
            return None if record is None else self._follow(request, record, now_ms)
        except TransientError as exc:
            self._report(exc)
            return None

    def end(self, claim: Claim, *, is_accepted: bool) -> bool:
        """End an attempt: finish its record if all commands are accepted, or release the lock.

        Returns:
            False if the table is not available. The lock then ends by itself, and the next
            repetition sends the same commands again.
        """
        if self._now_ms() - claim.started_ms > MAX_SECONDS_BEFORE_END * 1000:
            return True
        try:
            if is_accepted:
                self._store.finish(claim.record)
            else:
                self._store.release(claim.record, attempt=claim.attempt)
        except TransientError as exc:
            self._report(exc)
            return False
        return True

    def _follow(self, request: Repeatable, record: Record, now_ms: int) -> Claim:
        """Return the plan of a record, under a new lock if its commands have to be sent."""
        if record.fingerprint != request.fingerprint:
            raise ProblemError(_describe_reused())
        attempt = _name_attempt()
        if not record.is_finished:
            if record.locked_until_ms > now_ms:
                raise ProblemError(_describe_in_flight(record, now_ms))
            changed = self._store.take_over(
                record, attempt=attempt, locked_until_ms=now_ms + round(LOCK_SECONDS * 1000)
            )
            if changed is not None:  # another repetition was faster
                return self._follow(request, changed, now_ms)
        plan = decode_plan(record.answer, record.lines)
        return Claim(plan, record, attempt, now_ms, is_repetition=True)

    def _report(self, exc: TransientError) -> None:
        self._log.event("records_unavailable", level="ERROR", error=str(exc))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _name_attempt() -> str:
    # From the operating system, as ids are: instances restored from a snapshot must not share it.
    return base64.urlsafe_b64encode(os.urandom(9)).decode()


def _describe_reused() -> Problem:
    return Problem(
        "idempotency_key_reused",
        "another request was sent with this Idempotency-Key; send a new key with a new request",
    )


def _describe_in_flight(record: Record, now_ms: int) -> Problem:
    """409; the pause grows with the age of the attempt, up to the end of its lock."""
    remaining = (record.locked_until_ms - now_ms) / 1000
    pause = math.ceil(min(remaining, max(1.0, LOCK_SECONDS - remaining)))
    return Problem(
        "idempotency_in_flight",
        "a request with this Idempotency-Key is in progress; send it again later",
        headers={"Retry-After": str(max(1, pause))},
    )


def _describe_unavailable() -> Problem:
    return Problem(
        "idempotency_unavailable",
        "the idempotency records are not available, so a repetition could be applied twice; "
        "nothing was sent, send the request again with the same Idempotency-Key",
        headers={"Retry-After": str(UNAVAILABLE_RETRY_SECONDS)},
    )
