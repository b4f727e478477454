"""The consumer's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from forebay.settings import number, required

DEFAULT_STATEMENT_TIMEOUT_SECONDS = 60.0
DEFAULT_LOCK_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """The settings of the consumer."""

    #: libpq URL of the primary.
    database_url: str
    #: Only objects of this bucket are applied.
    archive_bucket: str
    #: URL of the queue of archive events.
    queue_url: str
    #: The address of the read cache; empty without one.
    read_cache: str
    statement_timeout_seconds: float
    lock_timeout_seconds: float

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """Read the environment variables, which docs/configuration.md lists.

        Raises:
            forebay.errors.SettingsError: a variable is missing or not a number.
        """
        return cls(
            database_url=required(environment, "FOREBAY_DATABASE_URL"),
            archive_bucket=required(environment, "FOREBAY_ARCHIVE_BUCKET"),
            queue_url=required(environment, "FOREBAY_QUEUE_URL"),
            read_cache=environment.get("FOREBAY_READ_CACHE", ""),
            statement_timeout_seconds=number(
                environment,
                "FOREBAY_STATEMENT_TIMEOUT_SECONDS",
                DEFAULT_STATEMENT_TIMEOUT_SECONDS,
            ),
            lock_timeout_seconds=number(
                environment, "FOREBAY_LOCK_TIMEOUT_SECONDS", DEFAULT_LOCK_TIMEOUT_SECONDS
            ),
        )
