"""The sweep's entry point; EventBridge calls it on a schedule."""

from __future__ import annotations

import os
from typing import Any

from forebay.log import Log
from lambdas.sweep import bootstrap
from lambdas.sweep.settings import SweepSettings

log = Log.of(bootstrap.SERVICE, os.environ)
app = bootstrap.build(SweepSettings.from_env(os.environ), log)  # once per cold start


def lambda_handler(_event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Sweep once."""
    return app.sweep()
