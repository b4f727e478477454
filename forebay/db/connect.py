"""Connections to Postgres, set up the same way everywhere."""

from __future__ import annotations

from typing import Any, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

CONNECT_TIMEOUT_SECONDS = 5
#: The least that libpq knows. Of several hosts each is tried for so long.
STANDBY_CONNECT_TIMEOUT_SECONDS = 2

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
) -> Connection:
    """An autocommit connection: transactions are opened where they are meant.

    Times are milliseconds, 0 is no limit. The zone is UTC, so that JSON made by Postgres is the
    same everywhere. Keepalives notice a primary that vanished in well under a minute.
    With `prefer_standby`, one of the URL's hosts is chosen at random among those that are standbys;
    what the URL itself says of that has precedence.

    Raises:
        psycopg.OperationalError: no server, or it refuses us.
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
    return psycopg.connect(
        _preferring_standbys(url) if prefer_standby else url,
        autocommit=True,
        application_name=application_name,
        connect_timeout=(
            STANDBY_CONNECT_TIMEOUT_SECONDS if prefer_standby else CONNECT_TIMEOUT_SECONDS
        ),
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
        # Statements are few and large (apply) or behind RDS Proxy, which pins on PREPARE (read).
        prepare_threshold=None,
    )


def _preferring_standbys(url: str) -> str:
    stated = conninfo_to_dict(url)
    choice = {name: word for name, word in _STANDBYS.items() if name not in stated}
    return make_conninfo(url, **choice)
