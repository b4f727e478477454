"""Builds the import; the only module that chooses real adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import botocore.session
from botocore.config import Config

import resources
from forebay.aws.archive import Archive
from forebay.aws.attachments import AttachmentStore
from forebay.aws.firehose import FirehoseSink
from forebay.intake.acceptance import Acceptor
from forebay.intake.attachments import AttachmentCheck
from forebay.log import Log
from lambdas.imports.app import Importer
from lambdas.imports.uploads import UploadClaims

if TYPE_CHECKING:
    from botocore.session import Session
    from mypy_boto3_firehose import FirehoseClient
    from mypy_boto3_s3 import S3Client

    from lambdas.imports.settings import ImportSettings

SERVICE = "imports"

_S3 = Config(connect_timeout=3, read_timeout=30, retries={"mode": "standard"})
# FirehoseSink retries.
_FIREHOSE = Config(connect_timeout=1, read_timeout=3, retries={"total_max_attempts": 1})

_Handler = Callable[[Mapping[str, Any]], dict[str, Any]]


def build(settings: ImportSettings, log: Log) -> _Handler:
    """Build the handler of messages with AWS clients, or with clients of AWS_ENDPOINT_URL.

    The messages of a call are of one queue: files to import, or uploads of attachments.
    """
    session = botocore.session.get_session()
    client = cast("S3Client", session.create_client("s3", config=_S3))
    specs = resources.load()
    archive = Archive(client, settings.archive_bucket)
    if not settings.attachments_bucket:
        return Importer(resources=specs, archive=archive, log=log).handle
    store = AttachmentStore(client, settings.attachments_bucket)
    importer = Importer(
        resources=specs, archive=archive, log=log, attachments=AttachmentCheck(store)
    )
    acceptor = Acceptor(_build_sink(session, settings), archive, log)
    claims = UploadClaims(resources=specs, store=store, acceptor=acceptor, log=log)

    def handle(event: Mapping[str, Any]) -> dict[str, Any]:
        is_upload = event["Records"][0]["eventSourceARN"] == settings.uploads_queue_arn
        return (claims if is_upload else importer).handle(event)

    return handle


def _build_sink(session: Session, settings: ImportSettings) -> FirehoseSink:
    client = cast("FirehoseClient", session.create_client("firehose", config=_FIREHOSE))
    return FirehoseSink(client, settings.streams)
