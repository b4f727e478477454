"""The sweep's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from forebay.settings import number, required

DEFAULT_GRACE_SECONDS = 900.0
DEFAULT_LOOKBACK_SECONDS = 172_800.0
DEFAULT_PATIENCE_SECONDS = 7_200.0


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """What the sweep needs to know."""

    #: libpq URL of the primary, whose ledger is the newest.
    database_url: str
    archive_bucket: str
    queue_url: str
    dead_letter_queue_url: str
    #: Where events of files below `imports/` go, and where those that failed too often.
    import_queue_url: str
    import_dead_letter_queue_url: str
    #: Younger objects are left alone: their events may be on their way.
    grace_seconds: float
    #: How far back the archive is listed. Firehose tries for 24 hours to store an object, whose
    #: name then tells the hour in which it should have been stored.
    lookback_seconds: float
    #: How long the queue's own messages are taken to be those of the objects that seem missed.
    patience_seconds: float

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """Read from the function's variables, which docs/configuration.md lists.

        Raises:
            forebay.errors.SettingsError: a variable is missing or no number.
        """
        return cls(
            database_url=required(environment, "FOREBAY_DATABASE_URL"),
            archive_bucket=required(environment, "FOREBAY_ARCHIVE_BUCKET"),
            queue_url=required(environment, "FOREBAY_QUEUE_URL"),
            dead_letter_queue_url=required(environment, "FOREBAY_DEAD_LETTER_QUEUE_URL"),
            import_queue_url=required(environment, "FOREBAY_IMPORT_QUEUE_URL"),
            import_dead_letter_queue_url=required(
                environment, "FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL"
            ),
            grace_seconds=number(environment, "FOREBAY_SWEEP_GRACE_SECONDS", DEFAULT_GRACE_SECONDS),
            lookback_seconds=number(
                environment, "FOREBAY_SWEEP_LOOKBACK_SECONDS", DEFAULT_LOOKBACK_SECONDS
            ),
            patience_seconds=number(
                environment, "FOREBAY_SWEEP_PATIENCE_SECONDS", DEFAULT_PATIENCE_SECONDS
            ),
        )
