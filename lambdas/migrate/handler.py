"""The migration's entry point."""

from __future__ import annotations

import os
from typing import Any

from forebay.log import Log
from forebay.settings import required
from lambdas.migrate.app import migrate


def lambda_handler(_event: dict[str, Any], _context: object) -> dict[str, str]:
    """Migrates; whatever it raises fails the deployment."""
    done = migrate(required(os.environ, "FOREBAY_DATABASE_URL"))
    Log("migrate").event("schema_migrated", outcome=done)
    return {"status": done}
