"""The about function's entry point."""

from __future__ import annotations

import os
from typing import Any

from forebay.log import Log
from lambdas.about import bootstrap
from lambdas.about.settings import AboutSettings

settings = AboutSettings.from_env(os.environ)
app = bootstrap.build(settings, Log.of(bootstrap.SERVICE, os.environ))  # once per cold start


def lambda_handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return app.handle(event).to_proxy(settings.cors_allow_origin)
