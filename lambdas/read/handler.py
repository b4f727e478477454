"""The read function's entry point."""

from __future__ import annotations

import os
from typing import Any

from forebay import starting
from forebay.log import Log
from lambdas.read import bootstrap
from lambdas.read.settings import ReadSettings

settings = ReadSettings.from_env(os.environ)
app = bootstrap.build(settings, Log.of(bootstrap.SERVICE, os.environ))  # once per cold start
starting.finish()


def lambda_handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return app.handle(event).to_proxy(settings.cors_allow_origin)
