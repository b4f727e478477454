"""Connections to Postgres, set up the same way everywhere."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterator, Mapping
from random import SystemRandom
from typing import Any, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from forebay.db import iam
from forebay.errors import SettingsError

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Cursor: TypeAlias = psycopg.Cursor[tuple[Any, ...]]

CONNECT_TIMEOUT_SECONDS = 5
#: The least that libpq knows. Of several hosts each is tried for so long.
STANDBY_CONNECT_TIMEOUT_SECONDS = 2
#: For whom nobody waits. A cluster that sleeps takes about 15 seconds to answer, 30 after a long
#: pause (Amazon Aurora user guide, "Scaling to Zero ACUs with automatic pause and resume").
WAKING_CONNECT_TIMEOUT_SECONDS = 45

# Asked of the operating system: the module's own generator would be part of a Lambda snapshot, and
# every function restored from it would choose the same host.
_CHANCE = SystemRandom()

# RDS Proxy refuses the start of a session with settings of its own; there they are the role's,
# which the migration gives it (lambdas/migrate/logins.py).
_PROXY_HOST = re.compile(r"\.proxy-[a-z0-9]+\.[a-z0-9-]+\.rds\.amazonaws\.com(?:\.cn)?$")

# For a URL with several hosts: any standby, each as often; a primary only if there is none.
_STANDBYS = {"target_session_attrs": "prefer-standby", "load_balance_hosts": "random"}


def connect(
    url: str,
    *,
    application_name: str,
    statement_timeout_ms: int,
    lock_timeout_ms: int = 0,
    read_only: bool = False,
    prefer_standby: bool = False,
    may_wake: bool = False,
    connect_timeout_seconds: int | None = None,
) -> Connection:
    """An autocommit connection: transactions are opened where they are meant.

    Times are milliseconds, 0 is no limit. The zone is UTC, so that JSON made by Postgres is the
    same everywhere. Keepalives notice a primary that vanished in well under a minute.
    With `prefer_standby`, one of the URL's hosts is chosen at random among those that are standbys;
    what the URL itself says of that has precedence.
    With `may_wake`, a server that sleeps is given the time that it needs to wake up.
    `connect_timeout_seconds` replaces the usual time for each host; libpq takes 2 at least.
    Where the URL names hosts of RDS and no password, the login is by an IAM token.

    Raises:
        psycopg.OperationalError: no server, or it refuses us.
        forebay.errors.SettingsError: a token is needed, and there is nothing to sign it with.
    """
    settings = {
        "statement_timeout": str(statement_timeout_ms),
        "lock_timeout": str(lock_timeout_ms),
        "idle_in_transaction_session_timeout": "60000",
        "search_path": "public",
        "TimeZone": "UTC",
        "DateStyle": "ISO",
        "default_transaction_read_only": "on" if read_only else "off",
    }
    # Whoever connects does so as the process that it is; the SDKs read the same variables.
    attempts = login_attempts(
        _preferring_standbys(url) if prefer_standby else url, environment=os.environ
    )
    timeout = STANDBY_CONNECT_TIMEOUT_SECONDS if prefer_standby else CONNECT_TIMEOUT_SECONDS
    if connect_timeout_seconds is not None:
        timeout = connect_timeout_seconds
    if may_wake:
        timeout = WAKING_CONNECT_TIMEOUT_SECONDS
    refused: psycopg.OperationalError | None = None
    for attempt in attempts:
        try:
            return psycopg.connect(
                attempt,
                autocommit=True,
                application_name=application_name,
                connect_timeout=timeout,
                # Lists are answered with the bytes that come, and COPY is sent such.
                client_encoding="UTF8",
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                options=_options(attempt, settings),
                # Statements are few and large (apply) or behind RDS Proxy, which pins on PREPARE.
                prepare_threshold=None,
            )
        except psycopg.OperationalError as exc:
            refused = exc
    assert refused is not None  # noqa: S101 - there is at least one attempt
    raise refused


def _options(attempt: str, settings: Mapping[str, str]) -> str | None:
    host = str(conninfo_to_dict(attempt).get("host") or "")
    if _PROXY_HOST.search(host):
        return None
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def login_attempts(url: str, *, environment: Mapping[str, str]) -> Iterator[str]:
    """The connections to try, in that order, as libpq knows them.

    Usually that is the URL itself, and libpq tries its hosts. A token however is for one host only,
    so where tokens are needed each host is an attempt of its own; standbys come first where they
    are preferred.

    Raises:
        forebay.errors.SettingsError: a token is needed, and there is nothing to sign it with.
        psycopg.OperationalError: what signs them could not be fetched.
    """
    stated = conninfo_to_dict(url)
    hosts = str(stated.get("host") or "").split(",")
    if stated.get("password") or not any(iam.region_of(host) for host in hosts):
        yield url
        return
    ports = [port or "5432" for port in str(stated.get("port") or "").split(",")]
    servers = list(zip(hosts, ports if len(ports) > 1 else ports * len(hosts), strict=True))
    if stated.pop("load_balance_hosts", None) == "random":
        _CHANCE.shuffle(servers)
    wanted = stated.pop("target_session_attrs", "any")
    credentials = iam.Credentials.current(environment)
    for attributes in ("standby", "any") if wanted == "prefer-standby" else (wanted,):
        for host, port in servers:
            one = {**stated, "host": host, "port": port, "target_session_attrs": attributes}
            yield make_conninfo("", **_with_token(one, credentials))


def _with_token(one: dict[str, Any], credentials: iam.Credentials) -> dict[str, Any]:
    region = iam.region_of(one["host"])
    if region is None:
        return one
    if "user" not in one:
        raise SettingsError(f"the address of {one['host']} names no user for the IAM token")
    password = iam.token(
        host=one["host"],
        port=int(one["port"]),
        user=one["user"],
        region=region,
        credentials=credentials,
        now=dt.datetime.now(dt.UTC),
    )
    return {**one, "password": password}


def _preferring_standbys(url: str) -> str:
    stated = conninfo_to_dict(url)
    choice = {name: word for name, word in _STANDBYS.items() if name not in stated}
    return make_conninfo(url, **choice)
