"""Connections to Postgres, set up the same way everywhere."""

from __future__ import annotations

from typing import Any, TypeAlias

import psycopg

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

CONNECT_TIMEOUT_SECONDS = 5


def connect(
    url: str,
    *,
    application_name: str,
    statement_timeout_ms: int,
    lock_timeout_ms: int = 0,
    read_only: bool = False,
) -> Connection:
    """An autocommit connection: transactions are opened where they are meant.

    Times are milliseconds, 0 is no limit. The zone is UTC, so that JSON made by Postgres is the
    same everywhere. Keepalives notice a primary that vanished in well under a minute.

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
        url,
        autocommit=True,
        application_name=application_name,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
        # Statements are few and large (apply) or behind RDS Proxy, which pins on PREPARE (read).
        prepare_threshold=None,
    )
