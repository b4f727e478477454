"""Builds the consumer; the only module that chooses real adapters."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, cast

import botocore.session
from botocore.config import Config

import resources
from forebay.aws.archive import Archive
from forebay.aws.queue import Queue
from forebay.db.connect import connect
from forebay.db.session import Session
from forebay.log import Log
from lambdas.firehose_consumer.app import Consumer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

    from lambdas.firehose_consumer.settings import ConsumerSettings

SERVICE = "consumer"

_AWS = Config(connect_timeout=3, read_timeout=30, retries={"mode": "standard"})


def build(settings: ConsumerSettings, log: Log) -> Consumer:
    """Build the consumer with AWS clients, or with clients of AWS_ENDPOINT_URL."""
    client = cast("S3Client", botocore.session.get_session().create_client("s3", config=_AWS))
    return Consumer(
        resources=resources.load(),
        archive=Archive(client, settings.archive_bucket),
        session=Session(
            partial(
                connect,
                settings.database_url,
                application_name="forebay-consumer",
                statement_timeout_ms=round(settings.statement_timeout_seconds * 1000),
                lock_timeout_ms=round(settings.lock_timeout_seconds * 1000),
                # A failed connect would cost the message's whole visibility time-out.
                may_wake=True,
            )
        ),
        # Few calls need it.
        open_queue=cache(partial(_open_queue, settings.queue_url)),
        log=log,
    )


def _open_queue(url: str) -> Queue:
    client = botocore.session.get_session().create_client("sqs", config=_AWS)
    return Queue(cast("SQSClient", client), url)
