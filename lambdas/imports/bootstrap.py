"""Builds the import; the only module that chooses real adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import botocore.session
from botocore.config import Config

import resources
from forebay.aws.archive import Archive
from forebay.log import Log
from lambdas.imports.app import Importer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from lambdas.imports.settings import ImportSettings

SERVICE = "imports"

_S3 = Config(connect_timeout=3, read_timeout=30, retries={"mode": "standard"})


def build(settings: ImportSettings, log: Log) -> Importer:
    """Build the import with AWS clients, or with clients of AWS_ENDPOINT_URL."""
    client = cast("S3Client", botocore.session.get_session().create_client("s3", config=_S3))
    return Importer(
        resources=resources.load(),
        archive=Archive(client, settings.archive_bucket),
        log=log,
    )
