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
from forebay.metrics import CACHE_CHANGES_MISSED
from forebay.read_cache.address import Address
from forebay.read_cache.link import CHANGE_BUDGET, Link
from forebay.read_cache.writer import Announcer
from lambdas.consumer.app import Consumer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

    from lambdas.consumer.settings import ConsumerSettings

SERVICE = "consumer"

_AWS = Config(connect_timeout=3, read_timeout=30, retries={"mode": "standard"})


def build(settings: ConsumerSettings, log: Log) -> Consumer:
    """Build the consumer with AWS clients, or with clients of AWS_ENDPOINT_URL.

    Raises:
        forebay.errors.SettingsError: the read cache's address is invalid.
    """
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
        announcer=_build_announcer(Address.parse(settings.read_cache), log),
        log=log,
    )


def _build_announcer(address: Address | None, log: Log) -> Announcer | None:
    if address is None:
        return None

    def report(reason: str) -> None:
        missed = {CACHE_CHANGES_MISSED: 1}
        log.event("changes_not_announced", level="WARNING", metrics=missed, reason=reason)

    return Announcer(Link(address, CHANGE_BUDGET), on_missed=report)


def _open_queue(url: str) -> Queue:
    client = botocore.session.get_session().create_client("sqs", config=_AWS)
    return Queue(cast("SQSClient", client), url)
