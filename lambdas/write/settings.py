"""The write function's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from forebay.attachments import Bucket
from forebay.settings import flag, number, required

DEFAULT_BUFFER_SECONDS = 60.0
#: Lambda's limit for the request of a synchronous call; the body is a part of that request.
DEFAULT_MAX_BODY_BYTES = 6 * 1024 * 1024
DEFAULT_IDEMPOTENCY_RETENTION_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """The settings of the write function."""

    #: The delivery streams' names.
    streams: tuple[str, ...]
    #: The archive bucket, for the fallback.
    archive_bucket: str
    #: The stream's buffer interval; `Retry-After` derives from it.
    buffer_seconds: float
    #: CORS: the origin that may read the answers, or `*` for all; empty for none.
    cors_allow_origin: str
    #: How callers prove their scopes: a kind of `forebay.access.Access`.
    authorization: str
    #: For `iam`: a JSON object of the principals' ARNs with their scopes; otherwise empty.
    principals: str
    #: Larger bodies are refused, with or without `Content-Length`.
    max_body_bytes: int
    #: The table of idempotency records; empty for none.
    idempotency_table: str
    #: How long a record is kept.
    idempotency_retention_seconds: int
    #: True if requests with a key are refused while the table is not available.
    idempotency_required: bool
    #: The bucket of attachments; None for none.
    attachments: Bucket | None

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """Read the function's environment variables, which docs/configuration.md lists.

        Raises:
            forebay.errors.SettingsError: a variable is missing or has an invalid value.
        """
        return cls(
            streams=tuple(required(environment, "FOREBAY_STREAMS").split(",")),
            archive_bucket=required(environment, "FOREBAY_ARCHIVE_BUCKET"),
            buffer_seconds=number(environment, "FOREBAY_BUFFER_SECONDS", DEFAULT_BUFFER_SECONDS),
            cors_allow_origin=environment.get("FOREBAY_CORS_ALLOW_ORIGIN", ""),
            authorization=required(environment, "FOREBAY_AUTHORIZATION"),
            principals=environment.get("FOREBAY_PRINCIPALS", ""),
            max_body_bytes=int(
                number(environment, "FOREBAY_MAX_BODY_BYTES", DEFAULT_MAX_BODY_BYTES)
            ),
            idempotency_table=environment.get("FOREBAY_IDEMPOTENCY_TABLE", ""),
            idempotency_retention_seconds=int(
                number(
                    environment,
                    "FOREBAY_IDEMPOTENCY_RETENTION_SECONDS",
                    DEFAULT_IDEMPOTENCY_RETENTION_SECONDS,
                )
            ),
            attachments=Bucket.from_env(environment),
            idempotency_required=flag(environment, "FOREBAY_IDEMPOTENCY_REQUIRED", default=True),
        )
