"""Converts the retention of logs to CDK's type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aws_cdk import aws_logs as logs

_RETENTION: Final[Mapping[int, logs.RetentionDays]] = {
    1: logs.RetentionDays.ONE_DAY,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    90: logs.RetentionDays.THREE_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
}


def log_retention(days: int) -> logs.RetentionDays:
    """The retention for a number of days, which must be one that the settings allow."""
    return _RETENTION[days]
