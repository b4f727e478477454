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
from forebay.signing import Credentials

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Cursor: TypeAlias = psycopg.Cursor[tuple[Any, ...]]

CONNECT_TIMEOUT_SECONDS = 5
#: The least that libpq accepts; with several hosts, each host has this time.
STANDBY_CONNECT_TIMEOUT_SECONDS = 2
#: Used when no client is waiting. A cluster that is paused takes about 15 seconds to resume, 30
#: after a long pause (Amazon Aurora user guide, "Scaling to Zero ACUs with automatic pause and
#: resume").
WAKING_CONNECT_TIMEOUT_SECONDS = 45

# From the operating system: the state of `random` would be part of a Lambda snapshot, and every
# function restored from the snapshot would choose the same host.
_CHANCE = SystemRandom()

# RDS Proxy refuses sessions with settings in their start-up packet. There the settings belong to
# the role, to which the migration adds them (lambdas/migrate/users.py).
_PROXY_HOST = re.compile(r"\.proxy-[a-z0-9]+\.[a-z0-9-]+\.rds\.amazonaws\.com(?:\.cn)?$")

# For a URL with several hosts: any standby, chosen at random; a primary only without a standby.
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
    connection_class: type[Connection] = psycopg.Connection,
) -> Connection:
    """An autocommit connection: callers open transactions explicitly.

    Times are in milliseconds; 0 disables the limit. The time zone is UTC, so that JSON made by
    Postgres is the same everywhere. Keepalives detect a vanished primary in well under a minute.

    With `prefer_standby`, one of the URL's standbys is chosen at random; parameters in the URL have
    precedence. With `may_wake`, the time-out allows a paused server to resume.
    `connect_timeout_seconds` replaces the usual time-out of each host; libpq's minimum is 2. If the
    URL names hosts of RDS and no password, the login uses an IAM token.

    Raises:
        psycopg.OperationalError: no server answers, or it refuses the login.
        forebay.errors.SettingsError: a token is needed, and there are no credentials to sign it.
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
    timeout = STANDBY_CONNECT_TIMEOUT_SECONDS if prefer_standby else CONNECT_TIMEOUT_SECONDS
    if connect_timeout_seconds is not None:
        timeout = connect_timeout_seconds
    if may_wake:
        timeout = WAKING_CONNECT_TIMEOUT_SECONDS
    # The process's own variables, as the SDKs read them.
    attempts = iterate_logins(
        _prefer_standbys(url) if prefer_standby else url, environment=os.environ
    )
    last_error: psycopg.OperationalError | None = None
    for attempt in attempts:
        try:
            return _log_in(attempt, settings, application_name, timeout, connection_class)
        except psycopg.OperationalError as exc:
            last_error = exc
    assert last_error is not None  # noqa: S101 - there is at least one attempt
    raise last_error


def _log_in(
    attempt: str,
    settings: Mapping[str, str],
    application_name: str,
    timeout_seconds: int,
    connection_class: type[Connection],
) -> Connection:
    return connection_class.connect(
        attempt,
        autocommit=True,
        application_name=application_name,
        connect_timeout=timeout_seconds,
        # Answers contain Postgres's bytes unchanged, and COPY sends UTF-8.
        client_encoding="UTF8",
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        options=_build_options(attempt, settings),
        # Statements are few and large (apply), or run behind RDS Proxy, which pins the
        # connection on PREPARE.
        prepare_threshold=None,
    )


def _build_options(attempt: str, settings: Mapping[str, str]) -> str | None:
    host = str(conninfo_to_dict(attempt).get("host") or "")
    if _PROXY_HOST.search(host):
        return None
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def iterate_logins(url: str, *, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the connection strings to try, in order, in libpq's format.

    Usually the URL itself, and libpq tries its hosts. A token however is valid for a single host,
    so with tokens each host is a separate attempt; standbys come first if they are preferred.

    Raises:
        forebay.errors.SettingsError: a token is needed, and there are no credentials to sign it.
        psycopg.OperationalError: the credentials could not be fetched.
    """
    parameters_of_url = conninfo_to_dict(url)
    hosts = str(parameters_of_url.get("host") or "").split(",")
    if parameters_of_url.get("password") or not any(iam.parse_region(host) for host in hosts):
        yield url
        return
    ports = [port or "5432" for port in str(parameters_of_url.get("port") or "").split(",")]
    servers = list(zip(hosts, ports if len(ports) > 1 else ports * len(hosts), strict=True))
    if parameters_of_url.pop("load_balance_hosts", None) == "random":
        _CHANCE.shuffle(servers)
    target_attributes = parameters_of_url.pop("target_session_attrs", "any")
    credentials = iam.current_credentials(environment)
    for attributes in (
        ("standby", "any") if target_attributes == "prefer-standby" else (target_attributes,)
    ):
        for host, port in servers:
            parameters = {
                **parameters_of_url,
                "host": host,
                "port": port,
                "target_session_attrs": attributes,
            }
            yield make_conninfo("", **_add_token(parameters, credentials))


def _add_token(parameters: dict[str, Any], credentials: Credentials) -> dict[str, Any]:
    region = iam.parse_region(parameters["host"])
    if region is None:
        return parameters
    if "user" not in parameters:
        raise SettingsError(
            f"the address of {parameters['host']} has no user, which the IAM token requires"
        )
    password = iam.token(
        host=parameters["host"],
        port=int(parameters["port"]),
        user=parameters["user"],
        region=region,
        credentials=credentials,
        now=dt.datetime.now(dt.UTC),
    )
    return {**parameters, "password": password}


def _prefer_standbys(url: str) -> str:
    parameters_of_url = conninfo_to_dict(url)
    choice = {name: value for name, value in _STANDBYS.items() if name not in parameters_of_url}
    return make_conninfo(url, **choice)
