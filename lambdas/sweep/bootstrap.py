"""Builds the sweep; the only module that chooses real adapters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import botocore.session
from botocore.config import Config

from forebay.archive.layout import IMPORTS_PREFIX
from forebay.attachments import UPLOADS_PREFIX
from forebay.aws.archive import Archive
from forebay.aws.queue import Queue
from forebay.db.connect import connect
from forebay.db.session import Session
from forebay.log import Log
from lambdas.sweep.app import Inbox, SweepApp

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

    from lambdas.sweep.settings import SweepSettings

SERVICE = "sweep"

_AWS = Config(connect_timeout=3, read_timeout=30, retries={"mode": "standard"})
_STATEMENT_TIMEOUT_MS = 60_000


def build(settings: SweepSettings, log: Log) -> SweepApp:
    """Build the sweep with AWS clients, or with clients of AWS_ENDPOINT_URL."""
    session = botocore.session.get_session()
    s3 = cast("S3Client", session.create_client("s3", config=_AWS))
    sqs = cast("SQSClient", session.create_client("sqs", config=_AWS))
    archive = Archive(s3, settings.archive_bucket)
    return SweepApp(
        settings,
        archive=archive,
        queue=Queue(sqs, settings.queue_url),
        dead_letters=Queue(sqs, settings.dead_letter_queue_url),
        imports=Inbox(
            archive,
            IMPORTS_PREFIX,
            Queue(sqs, settings.import_queue_url),
            Queue(sqs, settings.import_dead_letter_queue_url),
        ),
        uploads=Inbox(
            Archive(s3, settings.attachments_bucket),
            UPLOADS_PREFIX,
            Queue(sqs, settings.upload_queue_url),
            Queue(sqs, settings.upload_dead_letter_queue_url),
        )
        if settings.attachments_bucket
        else None,
        session=Session(
            partial(
                connect,
                settings.database_url,
                application_name="forebay-sweep",
                statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
                read_only=True,
                may_wake=True,
            )
        ),
        log=log,
    )
