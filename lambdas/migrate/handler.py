"""The migration's entry point."""

from __future__ import annotations

import os
from typing import Any, Protocol

from forebay.log import Log
from forebay.read_cache.address import Address
from forebay.settings import required
from lambdas.migrate.app import announce_migration, make_users_of, migrate
from lambdas.migrate.first_login import wait_for_login


class Context(Protocol):
    """The part of Lambda's context that is used here."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the time until Lambda ends the function."""


def lambda_handler(event: dict[str, Any], context: Context) -> dict[str, str]:
    """Migrate to the event's `revisions` or the newest; then create the users in FOREBAY_USERS.

    Every exception propagates and fails the deployment.
    """
    url = required(os.environ, "FOREBAY_DATABASE_URL")
    log = Log.of("migrate", os.environ)
    wait_for_login(url, log, remaining_seconds=context.get_remaining_time_in_millis() / 1000)
    status = migrate(url, event.get("revisions"))
    users = os.environ.get("FOREBAY_USERS", "")
    if users:
        writer, reader = users.split(",")
        make_users_of(url, writer=writer, reader=reader)
    address = Address.parse(os.environ.get("FOREBAY_READ_CACHE", ""))
    if address is not None and not announce_migration(url, address):
        log.event("changes_not_announced", level="WARNING")
    log.event("schema_migrated", outcome=status)
    return {"status": status}
