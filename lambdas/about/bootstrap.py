"""Builds the about function; the only module that chooses real adapters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import botocore.session
from botocore.config import Config

import resources
from forebay.aws.archive import Archive
from forebay.aws.queue import Queue
from forebay.db.connect import connect
from forebay.db.session import Session
from forebay.log import Log
from lambdas.about.app import AboutApp
from lambdas.about.database import HealthDatabase
from lambdas.about.health import Health
from lambdas.about.pages import Pages
from lambdas.about.progress import ArchiveProgress

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

    from lambdas.about.settings import AboutSettings

SERVICE = "about"

# The sum of all time-outs is below the function's: a monitor needs the status quickly.
_STATEMENT_TIMEOUT_MS = 2000
_AWS = Config(
    connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2}
)


def build(settings: AboutSettings, log: Log) -> AboutApp:
    """Build the app with the replicas, the archive and the queue that the settings name."""
    specs = resources.load()
    database = HealthDatabase(
        Session(
            partial(
                connect,
                settings.replica_url,
                application_name="forebay-about",
                statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
                read_only=True,
                prefer_standby=True,
            ),
            prefers_standby=True,
        )
    )
    aws = botocore.session.get_session()
    s3 = cast("S3Client", aws.create_client("s3", config=_AWS))
    sqs = cast("SQSClient", aws.create_client("sqs", config=_AWS))
    health = Health(
        database,
        ArchiveProgress(Archive(s3, settings.archive_bucket), database),
        Queue(sqs, settings.dead_letter_queue_url),
        [(path, spec.table) for path, spec in specs.items()],
        log,
        thresholds=settings.thresholds,
    )
    return AboutApp(
        resources=specs,
        pages=Pages(),
        health=health,
        require_api_key=settings.require_api_key,
        log=log,
        dotted_parameters=settings.dotted_parameters,
    )
