"""The import's entry point."""

from __future__ import annotations

import os
from typing import Any

from forebay.log import Log
from lambdas.imports import bootstrap
from lambdas.imports.settings import ImportSettings

log = Log.of(bootstrap.SERVICE, os.environ)
handle = bootstrap.build(ImportSettings.from_env(os.environ), log)  # once per cold start


def lambda_handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Handle a batch of messages about files or uploads; return the failed messages."""
    return handle(event)
