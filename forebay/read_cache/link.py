"""The connection to Valkey: a time budget for each call, and pauses after failures.

libvalkey writes and parses its protocol. The official client, `valkey`, is not used: importing it
takes as long as the rest of the read function's start.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import psycopg
from libvalkey import ProtocolError, Reader, ReplyError, pack_command

from forebay.breaker import CircuitBreaker
from forebay.db import iam
from forebay.errors import ForebayError, SettingsError, TransientError
from forebay.read_cache.address import Address

Argument: TypeAlias = bytes | str | int
Reply: TypeAlias = "bytes | int | list[Reply] | None"

_FIRST_PAUSE_SECONDS = 1.0
_GREATEST_PAUSE_SECONDS = 30.0
_RECEIVE_BYTES = 64 * 1024
_RUN_DIGITS = 16  # of 40: enough that two runs differ


class CacheUnavailableError(TransientError):
    """The cache did not answer in time, refused a command, or is skipped after such a failure."""


class CacheFullError(CacheUnavailableError):
    """The server has no memory for a new record; it still answers."""


class CacheReplacedError(CacheUnavailableError):
    """Another run of a server answers; records for the earlier one would be useless there."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a call may take."""

    #: With TLS and the login.
    connect_seconds: float
    call_seconds: float


#: A read that takes longer is answered by the replica.
READ_BUDGET = Budget(connect_seconds=0.2, call_seconds=0.01)
#: A change waits longer: without its announcement, old answers stay for `ANSWER_SECONDS`.
CHANGE_BUDGET = Budget(connect_seconds=1.0, call_seconds=1.0)


class Link:
    """Sends commands over one connection, opened at the first use and again after a failure.

    After a failure the cache is skipped for a second, and for up to half a minute after repeated
    ones, so that a slow cache costs few requests their time.
    """

    def __init__(
        self,
        address: Address,
        budget: Budget,
        *,
        on_failure: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a link without opening a connection.

        Args:
            address: the server's.
            budget: the time of each call.
            on_failure: called with the reason at the begin of each pause.
            clock: seconds of a monotonic clock.
        """
        self._address = address
        self._budget = budget
        self._on_failure = on_failure
        self._breaker = CircuitBreaker(
            first_seconds=_FIRST_PAUSE_SECONDS,
            greatest_seconds=_GREATEST_PAUSE_SECONDS,
            clock=clock,
        )
        self._wire: _Wire | None = None

    def call(
        self, command: Callable[[str], Sequence[Argument]], *, run: str | None = None
    ) -> tuple[str, Reply]:
        """Send a command; return the id of the server's run, and the reply.

        A connection that was closed since the last call is replaced, and the command repeated: all
        commands are safe to repeat.

        Args:
            command: builds the command for a server's run.
            run: fail if the server's run is another.

        Raises:
            CacheUnavailableError: the cache is to be skipped.
        """
        if self._breaker.is_open:
            raise CacheUnavailableError("the read cache is skipped after a failure")
        was_open = self._wire is not None
        try:
            result = self._call(command, run)
        except ConnectionError as exc:
            if not was_open:
                raise self.pause(exc) from exc
            result = self._call_again(command, run)
        except (CacheFullError, CacheReplacedError):
            raise
        except (OSError, ForebayError, psycopg.OperationalError) as exc:
            raise self.pause(exc) from exc
        self._breaker.record_success()
        return result

    def pause(self, reason: object) -> CacheUnavailableError:
        """Close the connection and skip the cache for a while; return the error to raise."""
        self.close()
        self._breaker.record_failure()
        text = f"{self._address}: {reason or type(reason).__name__}"
        self._on_failure(text)
        return CacheUnavailableError(f"the read cache {text}")

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _call_again(
        self, command: Callable[[str], Sequence[Argument]], run: str | None
    ) -> tuple[str, Reply]:
        self.close()
        try:
            return self._call(command, run)
        except (CacheFullError, CacheReplacedError):
            raise
        except (OSError, ForebayError, psycopg.OperationalError) as exc:
            raise self.pause(exc) from exc

    def _call(
        self, command: Callable[[str], Sequence[Argument]], run: str | None
    ) -> tuple[str, Reply]:
        wire = self._wire
        if wire is None:
            wire = self._wire = _Wire.open(self._address, self._budget.connect_seconds)
        if run is not None and run != wire.run:
            raise CacheReplacedError("another run of a server answers")
        return wire.run, wire.send(command(wire.run), self._budget.call_seconds)


class _Wire:
    """A connection, and the parser of its replies."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._socket = connection
        self._parser = Reader()
        self._deadline = deadline
        #: The bound of the socket's waits; 0 until it is set.
        self._wait_seconds = 0.0
        self.run = ""

    @classmethod
    def open(cls, address: Address, seconds: float) -> _Wire:
        """Connect, log in, and read the id of the server's run.

        Raises:
            OSError: the server can't be reached, or did not answer in time.
            ForebayError, psycopg.OperationalError: it refuses the login, or no token can be signed.
        """
        deadline = time.monotonic() + seconds
        connection = socket.create_connection((address.host, address.port), timeout=seconds)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.tls:
                connection = _encrypt(connection, address.host)
            wire = cls(connection, deadline)
            if address.user is not None:
                password = address.password or sign_token(address, os.environ)
                wire._ask(["AUTH", address.user, password])
            wire.run = _find_run(wire._ask(["INFO", "server"]))
        except BaseException:
            connection.close()
            raise
        return wire

    def send(self, command: Sequence[Argument], seconds: float) -> Reply:
        """Send a command and return its reply.

        Raises:
            OSError: no complete reply came in time.
            CacheUnavailableError: the reply is an error.
        """
        self._deadline = time.monotonic() + seconds
        return self._ask(command)

    def close(self) -> None:
        self._socket.close()

    def _ask(self, command: Sequence[Argument]) -> Reply:
        self._limit_wait()
        self._socket.sendall(pack_command(tuple(command)))
        while (reply := self._receive()) is False:
            pass
        if isinstance(reply, ReplyError):
            message = str(reply)
            raise (CacheFullError if message.startswith("OOM ") else CacheUnavailableError)(message)
        return cast("Reply", reply)

    def _receive(self) -> object:
        """Read what has arrived; return the reply, or False as long as it is incomplete."""
        self._limit_wait()
        data = self._socket.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._parser.feed(data)
        try:
            return self._parser.gets()
        except ProtocolError as exc:
            raise CacheUnavailableError(f"the server does not speak RESP: {exc}") from exc

    def _limit_wait(self) -> None:
        """Let the next wait end at the deadline, or a tenth later: setting it is a system call."""
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("no answer in time")
        if abs(self._wait_seconds - remaining) > remaining / 10:
            self._socket.settimeout(remaining)
            self._wait_seconds = remaining


def sign_token(address: Address, environment: Mapping[str, str]) -> str:
    """The user's password for the next 15 minutes (ElastiCache, "Authenticating with IAM").

    Raises:
        SettingsError, psycopg.OperationalError: there are no credentials to sign it.
    """
    if address.user is None or address.cache is None or address.region is None:
        raise SettingsError(f"{address} names no user, cache and region for a token")
    return iam.presign(
        address.cache,
        {"Action": "connect", "User": address.user},
        service="elasticache",
        region=address.region,
        credentials=iam.current_credentials(environment),
        now=dt.datetime.now(dt.UTC),
    )


def _encrypt(connection: socket.socket, host: str) -> socket.socket:
    # Only the deployed functions need it.
    import ssl  # noqa: PLC0415

    return ssl.create_default_context().wrap_socket(connection, server_hostname=host)


def _find_run(info: Reply) -> str:
    """The id of the server's run in the reply to INFO."""
    if isinstance(info, bytes):
        for line in info.decode().splitlines():
            if line.startswith("run_id:") and len(line) > len("run_id:"):
                return line.removeprefix("run_id:")[:_RUN_DIGITS]
    raise CacheUnavailableError("the server does not name its run")
