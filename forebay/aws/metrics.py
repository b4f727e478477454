"""Metrics that a function writes into its log, from which CloudWatch extracts them.

The format: CloudWatch user guide, "Specification: Embedded metric format".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aws_lambda_powertools.metrics import Metrics

from forebay.settings import required

NAMESPACE: Final = "Forebay"


def dimensions(service: str, environment: str) -> Mapping[str, str]:
    """The dimensions that separate the metrics of functions, and of environments in an account."""
    return {"service": service, "environment": environment}


def metrics_of(service: str, environment: Mapping[str, str]) -> Metrics:
    """The metrics of a function, with its environment as a dimension.

    Args:
        service: the function's name in metrics and logs.
        environment: the function's variables, with FOREBAY_ENV.

    Raises:
        forebay.errors.SettingsError: FOREBAY_ENV is missing.
    """
    metrics = Metrics(namespace=NAMESPACE, service=service)
    metrics.set_default_dimensions(**dimensions(service, required(environment, "FOREBAY_ENV")))
    return metrics
