"""The consumer's entry point."""

from __future__ import annotations

import os
from typing import Any

from forebay.collector import collect_seldom
from forebay.log import Log
from lambdas.consumer import bootstrap
from lambdas.consumer.settings import ConsumerSettings

log = Log.of(bootstrap.SERVICE, os.environ)
consumer = bootstrap.build(ConsumerSettings.from_env(os.environ), log)  # once per cold start
collect_seldom()


def lambda_handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Apply a batch of messages; return the failed ones."""
    return consumer.handle(event)
