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
    """The settings of the sweep."""

    #: libpq URL of the primary: its ledger is more recent than a replica's.
    database_url: str
    archive_bucket: str
    queue_url: str
    dead_letter_queue_url: str
    #: The queue of events for files below `imports/`, and its dead-letter queue.
    import_queue_url: str
    import_dead_letter_queue_url: str
    #: The bucket of attachments, the queue of events for its uploads, and its dead-letter queue;
    #: empty without attachments.
    attachments_bucket: str
    upload_queue_url: str
    upload_dead_letter_queue_url: str
    #: Younger objects are skipped: their events may still be in flight.
    grace_seconds: float
    #: How far back the archive is listed. Firehose retries a delivery for 24 hours, and an object's
    #: name contains the hour in which it should have been stored.
    lookback_seconds: float
    #: How long a backlog in the queue is taken as the explanation for objects that seem missed.
    patience_seconds: float

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """Read the function's environment variables, which docs/configuration.md lists.

        Raises:
            forebay.errors.SettingsError: a variable is missing or not a number.
        """
        bucket = environment.get("FOREBAY_ATTACHMENTS_BUCKET", "")
        return cls(
            database_url=required(environment, "FOREBAY_DATABASE_URL"),
            archive_bucket=required(environment, "FOREBAY_ARCHIVE_BUCKET"),
            queue_url=required(environment, "FOREBAY_QUEUE_URL"),
            dead_letter_queue_url=required(environment, "FOREBAY_DEAD_LETTER_QUEUE_URL"),
            import_queue_url=required(environment, "FOREBAY_IMPORT_QUEUE_URL"),
            import_dead_letter_queue_url=required(
                environment, "FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL"
            ),
            attachments_bucket=bucket,
            upload_queue_url=required(environment, "FOREBAY_UPLOAD_QUEUE_URL") if bucket else "",
            upload_dead_letter_queue_url=(
                required(environment, "FOREBAY_UPLOAD_DEAD_LETTER_QUEUE_URL") if bucket else ""
            ),
            grace_seconds=number(environment, "FOREBAY_SWEEP_GRACE_SECONDS", DEFAULT_GRACE_SECONDS),
            lookback_seconds=number(
                environment, "FOREBAY_SWEEP_LOOKBACK_SECONDS", DEFAULT_LOOKBACK_SECONDS
            ),
            patience_seconds=number(
                environment, "FOREBAY_SWEEP_PATIENCE_SECONDS", DEFAULT_PATIENCE_SECONDS
            ),
        )
