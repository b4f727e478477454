"""The import's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from forebay.settings import required


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """The settings of the import."""

    #: The bucket of the files and of the archive.
    archive_bucket: str
    #: The bucket of attachments; empty for none.
    attachments_bucket: str
    #: The queue of its uploads, as an ARN; empty without attachments.
    uploads_queue_arn: str
    #: The delivery streams' names, for the commands of uploads; empty without attachments.
    streams: tuple[str, ...]

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """Read the function's environment variables, which docs/configuration.md lists.

        Raises:
            forebay.errors.SettingsError: a variable is missing.
        """
        bucket = environment.get("FOREBAY_ATTACHMENTS_BUCKET", "")
        streams = required(environment, "FOREBAY_STREAMS") if bucket else ""
        return cls(
            archive_bucket=required(environment, "FOREBAY_ARCHIVE_BUCKET"),
            attachments_bucket=bucket,
            uploads_queue_arn=required(environment, "FOREBAY_UPLOADS_QUEUE_ARN") if bucket else "",
            streams=tuple(streams.split(",")) if streams else (),
        )
