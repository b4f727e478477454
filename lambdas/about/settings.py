"""The about function's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from forebay.settings import flag, number, required
from lambdas.about.verdict import Thresholds

DEFAULT_LATE_SECONDS = 60.0
DEFAULT_ATTENTION_SECONDS = 900.0
DEFAULT_OPEN_REJECTIONS = 0.0


@dataclass(frozen=True, slots=True)
class AboutSettings:
    """The settings of the about function."""

    #: libpq URL of the replicas, or of the primary if there are none.
    replica_url: str
    #: The archive bucket; its newest objects are compared with the ledger.
    archive_bucket: str
    #: The consumer's dead-letter queue; its messages are counted.
    dead_letter_queue_url: str
    #: The limits for the statuses `late` and `attention`.
    thresholds: Thresholds
    #: True if callers need an API key; the API's description states it.
    require_api_key: bool
    #: CORS: the origin that may read the answers, or `*` for all; empty for none.
    cors_allow_origin: str
    #: False if the API declares no query parameters with a dot in their names.
    dotted_parameters: bool = True

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """Read the function's environment variables, which docs/configuration.md lists.

        Raises:
            forebay.errors.SettingsError: a variable is missing, or not a number, yes or no.
        """
        return cls(
            replica_url=required(environment, "FOREBAY_REPLICA_URL"),
            archive_bucket=required(environment, "FOREBAY_ARCHIVE_BUCKET"),
            dead_letter_queue_url=required(environment, "FOREBAY_DEAD_LETTER_QUEUE_URL"),
            thresholds=_read_thresholds(environment),
            require_api_key=flag(environment, "FOREBAY_REQUIRE_API_KEY", default=False),
            cors_allow_origin=environment.get("FOREBAY_CORS_ALLOW_ORIGIN", ""),
            dotted_parameters=flag(environment, "FOREBAY_DOTTED_PARAMETERS", default=True),
        )


def _read_thresholds(environment: Mapping[str, str]) -> Thresholds:
    return Thresholds(
        late_seconds=number(environment, "FOREBAY_STATUS_LATE_SECONDS", DEFAULT_LATE_SECONDS),
        attention_seconds=number(
            environment, "FOREBAY_STATUS_ATTENTION_SECONDS", DEFAULT_ATTENTION_SECONDS
        ),
        open_rejections=number(
            environment, "FOREBAY_STATUS_OPEN_REJECTIONS", DEFAULT_OPEN_REJECTIONS
        ),
    )
