"""Settings of the parts between a write and the database: streams, archive, queues, sweep."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.encryption import KeyArn
from infra.section import Section

RetentionDays = Annotated[int, Field(ge=1, le=14)]  # SQS's limit


class StreamSettings(Section):
    """How long the delivery streams buffer commands before they write an object."""

    buffer_mebibytes: Annotated[int, Field(ge=1, le=128)]
    buffer_seconds: Annotated[int, Field(ge=0, le=900)]
    #: Streams among which writes are spread. A stream takes 1,000 to 2,000 requests and 1 to 5 MiB
    #: per second, depending on the region, unless AWS raises its quota; an account has 50.
    count: Annotated[int, Field(ge=1, le=20)] = 1
    #: Firehose's address, if it isn't the region's.
    endpoint: str | None = None


class LockSettings(Section):
    """Object Lock: archive objects can't be deleted. Only a new bucket can have it."""

    #: `compliance` binds the account's root user too; `governance` can be overridden with a
    #: permission.
    mode: Literal["governance", "compliance"]
    days: Annotated[int, Field(ge=1, le=36_500)]


class CopySettings(Section):
    """A copy of every archive object, in an existing bucket of another region."""

    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    #: Versioned, as S3 requires; `forebay-<env>-archive-…` of a standby region is.
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    #: The key of the copies, in their region; required if the archive has a customer managed key.
    key: KeyArn | None = None

    @model_validator(mode="after")
    def _check_key(self) -> Self:
        if self.key is not None and self.key.split(":")[3] != self.region:
            raise ValueError("key must be in the region of the copy")
        return self


class ArchiveSettings(Section):
    """How the archive is kept."""

    #: Age at which objects move to Glacier Instant Retrieval: a sixth of the storage price,
    #: immediate but billed reads, and a minimum of 90 days. None: they are not moved.
    glacier_after_days: Annotated[int, Field(ge=1)] | None = None
    #: How long an overwritten or deleted version is kept.
    old_versions_days: Annotated[int, Field(ge=1)] = 90
    lock: LockSettings | None = None
    copy_to: CopySettings | None = None

    @model_validator(mode="after")
    def _check_versions(self) -> Self:
        if self.lock is not None and self.old_versions_days < self.lock.days:
            raise ValueError(
                "old_versions_days must not be less than lock.days: S3 can't expire locked versions"
            )
        return self


class IdempotencySettings(Section):
    """The records of requests with an Idempotency-Key."""

    #: How long a repetition gets the first answer. An attempt's lock is shorter than an hour.
    retention_hours: Annotated[int, Field(ge=1, le=24 * 365)] = 24
    #: While DynamoDB is not available: `refuse` requests with a key (503), or `accept` them with
    #: what the key guarantees without a record.
    when_unavailable: Literal["refuse", "accept"] = "refuse"


class AttachmentSettings(Section):
    """The bucket of attachments."""

    #: How long the form of an upload, and the address of a download, can be used. Their holder
    #: needs no other permission.
    valid_minutes: Annotated[int, Field(ge=1, le=60)] = 15
    #: How long an overwritten or deleted version is kept.
    old_versions_days: Annotated[int, Field(ge=1)] = 90


class QueueSettings(Section):
    """The queue between the archive and the consumer, and its dead letters."""

    retention_days: RetentionDays
    dead_letter_retention_days: RetentionDays
    #: Deliveries of one message before it becomes a dead letter.
    max_receives: Annotated[int, Field(ge=5)]

    @model_validator(mode="after")
    def _check_retention(self) -> Self:
        # A dead letter keeps the age that it had in the queue.
        if self.dead_letter_retention_days <= self.retention_days:
            raise ValueError("dead_letter_retention_days must be greater than retention_days")
        return self


class ConsumerSettings(Section):
    """How the queue's messages reach the consumer."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)]
    window_seconds: Annotated[int, Field(ge=0, le=300)]
    #: Bounds the primary's connections for live traffic; Lambda's minimum is 2.
    max_concurrency: Annotated[int, Field(ge=2, le=1000)]

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.batch_size > 10 and self.window_seconds == 0:  # noqa: PLR2004 - Lambda's rule
            raise ValueError("window_seconds must be at least 1 if batch_size is above 10")
        return self


class SweepSettings(Section):
    """How often, and how far back, the archive is compared with the ledger."""

    every_minutes: Annotated[int, Field(ge=1, le=1440)]
    #: Younger objects are skipped.
    grace_seconds: Annotated[int, Field(ge=0)]
    #: Firehose retries a delivery for 24 hours, under the hour in which the object's data arrived.
    lookback_hours: Annotated[int, Field(ge=25)]
    #: How long a backlog in the queue is taken as the explanation for objects that are not applied.
    patience_minutes: Annotated[int, Field(ge=0)]


class ReplaySettings(Section):
    """How the replay queue's messages reach the consumer."""

    #: Bounds the primary's connections for a replay; Lambda's minimum is 2.
    max_concurrency: Annotated[int, Field(ge=2, le=1000)]
