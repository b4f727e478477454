"""The consumer's entry point."""

from __future__ import annotations

import os
from typing import Any

from forebay.aws.metrics import metrics_of
from forebay.collector import collect_seldom
from lambdas.firehose_consumer import bootstrap
from lambdas.firehose_consumer.settings import ConsumerSettings

metrics = metrics_of(bootstrap.SERVICE, os.environ)
consumer = bootstrap.build(ConsumerSettings.from_env(os.environ), metrics)  # once per cold start
collect_seldom()


@metrics.log_metrics
def lambda_handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Apply a batch of messages; return the failed ones."""
    return consumer.handle(event)
