"""What the functions of the service stack need for attachments: permissions and variables."""

from __future__ import annotations

from collections.abc import Mapping

from forebay.attachments import OBJECTS_PREFIX, UPLOADS_PREFIX
from infra.components.archive import ONLY_CREATE
from infra.components.functions import ProductFunction
from infra.settings import Settings
from infra.stacks.data import DataStack


def grant_attachments(
    data: DataStack, *, write: ProductFunction, read: ProductFunction, imports: ProductFunction
) -> None:
    """Grant what the forms and addresses that functions sign allow, and the claims."""
    attachments = data.attachments
    assert attachments is not None  # noqa: S101 - checked by the caller
    objects = attachments.objects(OBJECTS_PREFIX)
    write.allow("s3:PutObject", on=attachments.objects(UPLOADS_PREFIX))
    for function in (write, read, imports):
        function.allow("s3:GetObject", on=objects)
    for function in (write, imports):
        # With it, S3 answers 404 for an object that does not exist; without it, 403.
        function.allow("s3:ListBucket", on=attachments.arn)
    imports.allow("s3:GetObject", "s3:DeleteObject", on=attachments.objects(UPLOADS_PREFIX))
    imports.allow("s3:PutObject", on=objects, where=ONLY_CREATE)
    for stream in data.delivery.arns:
        imports.allow("firehose:PutRecord", "firehose:PutRecordBatch", on=stream)


def export_attachments(settings: Settings, data: DataStack) -> Mapping[str, str]:
    """The variables of the bucket of attachments; empty without the setting."""
    if settings.attachments is None or data.attachments is None:
        return {}
    return {
        "FOREBAY_ATTACHMENTS_BUCKET": data.attachments.name,
        "FOREBAY_ATTACHMENTS_VALID_SECONDS": str(settings.attachments.valid_minutes * 60),
    }


def grant_sweep_of_uploads(data: DataStack, sweep: ProductFunction) -> None:
    """Let the sweep find uploads whose events were lost, and enqueue them."""
    attachments = data.attachments
    assert attachments is not None  # noqa: S101 - checked by the caller
    prefix = {"StringEquals": {"s3:prefix": UPLOADS_PREFIX}}
    sweep.allow("s3:ListBucket", on=attachments.arn, where=prefix)


def export_upload_queues(data: DataStack) -> Mapping[str, str]:
    """The variables of the sweep of uploads; empty without the setting."""
    if data.attachments is None or data.uploads is None:
        return {}
    return {
        "FOREBAY_ATTACHMENTS_BUCKET": data.attachments.name,
        "FOREBAY_UPLOAD_QUEUE_URL": data.uploads.queue.queue_url,
        "FOREBAY_UPLOAD_DEAD_LETTER_QUEUE_URL": data.uploads.dead_letters.queue_url,
    }


def export_uploads(data: DataStack, stream: Mapping[str, str]) -> Mapping[str, str]:
    """The variables of the function that claims uploads; empty without the setting."""
    if data.attachments is None or data.uploads is None:
        return {}
    return {
        "FOREBAY_ATTACHMENTS_BUCKET": data.attachments.name,
        "FOREBAY_UPLOADS_QUEUE_ARN": data.uploads.queue.queue_arn,
        **stream,
    }
