"""Builds the write function; the only module that chooses real adapters."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, cast

import botocore.session
from botocore.config import Config

import resources
from forebay.access import Access
from forebay.aws.archive import Archive
from forebay.aws.attachments import AttachmentStore
from forebay.aws.firehose import FirehoseSink
from forebay.ids import IdSource
from forebay.intake.acceptance import Acceptor
from forebay.intake.attachments import AttachmentCheck
from forebay.log import Log
from forebay.signing import Credentials
from lambdas.write.answers import Answers
from lambdas.write.app import WriteApp
from lambdas.write.uploads import UploadForms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from botocore.session import Session
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_firehose import FirehoseClient
    from mypy_boto3_s3 import S3Client

    from forebay.attachments import Claimed, Upload
    from lambdas.write.records import Records
    from lambdas.write.settings import WriteSettings

SERVICE = "write"

# FirehoseSink retries: the SDK would retry whole batches and outlast the client's time-out. All
# attempts together take 23 s at worst (5 s until the last attempt begins, 8 s for its calls, 10 s
# for S3). That is less than the function's 27 s and API Gateway's 29 s, so every client gets an
# answer about its write.
_FIREHOSE = Config(connect_timeout=1, read_timeout=3, retries={"total_max_attempts": 1})
# Two attempts, with the pause of 0.05 s between them that botocore has for DynamoDB in this mode:
# at worst 3 s, before the 23 s of the others.
_DYNAMODB = Config(
    connect_timeout=0.5, read_timeout=1, retries={"mode": "legacy", "total_max_attempts": 2}
)
# The same for the descriptions of attachments, before the others.
_HEAD = Config(
    connect_timeout=0.5, read_timeout=1, retries={"mode": "legacy", "total_max_attempts": 2}
)
_S3 = Config(
    connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2}
)


class LazyArchive:
    """The archive for the fallback; creates its S3 client at its first use, not at start-up."""

    def __init__(self, session: Session, bucket: str) -> None:
        self._session = session
        self._bucket = bucket

    def write_commands(self, lines: Sequence[bytes], command_id: str) -> None:
        """Store lines as one object; raises TransientError."""
        self._archive.write_commands(lines, command_id)

    @cached_property
    def _archive(self) -> Archive:
        return Archive(
            cast("S3Client", self._session.create_client("s3", config=_S3)), self._bucket
        )


class LazyAttachments:
    """The bucket of attachments; creates its S3 client at its first use, not at start-up."""

    def __init__(self, session: Session, bucket: str) -> None:
        self._session = session
        self._bucket = bucket

    def find(self, upload: Upload) -> Claimed | None:
        """The object of an upload that was claimed; raises TransientError."""
        return self._store.find(upload)

    @cached_property
    def _store(self) -> AttachmentStore:
        client = cast("S3Client", self._session.create_client("s3", config=_HEAD))
        return AttachmentStore(client, self._bucket)


def build(settings: WriteSettings, log: Log) -> WriteApp:
    """Build the app with AWS clients, or with clients of AWS_ENDPOINT_URL."""
    session = botocore.session.get_session()
    ids, bucket = IdSource(), settings.attachments
    firehose = cast("FirehoseClient", session.create_client("firehose", config=_FIREHOSE))
    return WriteApp(
        resources=resources.load(),
        acceptor=Acceptor(
            FirehoseSink(firehose, settings.streams),
            LazyArchive(session, settings.archive_bucket),
            log,
        ),
        ids=ids,
        answers=Answers(settings.buffer_seconds),
        log=log,
        access=Access.parse(settings.authorization, settings.principals),
        max_body_bytes=settings.max_body_bytes,
        shapes=resources.shapes,
        records=_build_records(settings, session, log) if settings.idempotency_table else None,
        attachments=AttachmentCheck(
            None if bucket is None else LazyAttachments(session, bucket.name)
        ),
        # The process's own variables, as the SDKs read them.
        uploads=None
        if bucket is None
        else UploadForms(bucket, ids, lambda: Credentials.current(os.environ)),
    )


def _build_records(settings: WriteSettings, session: Session, log: Log) -> Records:
    """Build the idempotency records; their modules and client are loaded with a table only."""
    from forebay.aws.records import RecordTable  # noqa: PLC0415
    from lambdas.write.records import Records  # noqa: PLC0415

    # At the start, not at the first request with a key: a start has more processor time, and a
    # snapshot contains the client.
    client = cast("DynamoDBClient", session.create_client("dynamodb", config=_DYNAMODB))
    return Records(
        RecordTable(client, settings.idempotency_table),
        retention_seconds=settings.idempotency_retention_seconds,
        is_required=settings.idempotency_required,
        log=log,
    )
