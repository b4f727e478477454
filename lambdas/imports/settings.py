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

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """Read FOREBAY_ARCHIVE_BUCKET.

        Raises:
            forebay.errors.SettingsError: it is missing.
        """
        return cls(archive_bucket=required(environment, "FOREBAY_ARCHIVE_BUCKET"))
