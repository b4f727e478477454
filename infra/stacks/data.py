"""DataStack: the persistent resources. Deleting the service stack does not affect it."""

from __future__ import annotations

from constructs import Construct

from infra.components.archive import Archive
from infra.components.attachments import AttachmentsBucket
from infra.components.delivery import Delivery
from infra.components.encryption import build_keys, encrypt
from infra.components.queueing import ArchiveEvents
from infra.components.records import RecordsTable
from infra.components.retention import log_retention
from infra.settings import Settings
from infra.stacks.base import EnvironmentStack


class DataStack(EnvironmentStack):
    """The archive, the streams that fill it, the queues of its events, records, attachments."""

    def __init__(self, scope: Construct, *, settings: Settings) -> None:
        super().__init__(scope, "data", settings=settings, protected=True)
        #: The customer managed keys; none by default.
        self.keys = build_keys(self, settings.encryption, name_prefix=settings.prefix)
        self.archive = Archive(
            self,
            "Archive",
            name_prefix=settings.prefix,
            settings=settings.archive,
            keys=self.keys,
        )
        self.delivery = Delivery(
            self,
            "Delivery",
            name_prefix=settings.prefix,
            archive=self.archive,
            keys=self.keys,
            buffer_mebibytes=settings.stream.buffer_mebibytes,
            buffer_seconds=settings.stream.buffer_seconds,
            count=settings.stream.count,
            log_retention=log_retention(settings.logs.retention_days),
        )
        #: None without the setting.
        self.records = self._add_records()
        self.events = self._add_events(
            "ArchiveEvents", "archive-events", visibility_seconds=settings.visibility_seconds
        )
        # A separate queue, so that a replay and live traffic do not delay each other.
        self.replay = self._add_events(
            "Replay", "replay", visibility_seconds=settings.visibility_seconds
        )
        self.imports = self._add_events(
            "ImportEvents",
            "import-events",
            visibility_seconds=6 * settings.functions.imports.timeout_seconds,
        )
        # Firehose's role, then the queues, then the bucket with their events, then the streams:
        # CloudFormation waits for each of them, and the role becomes known in that time.
        self.events.dead_letters.node.add_dependency(self.delivery.role)
        self.archive.notify(
            self.events.queue.queue_arn,
            imports_arn=self.imports.queue.queue_arn,
            after=[
                queue.accept_events_of(self.archive.arn) for queue in (self.events, self.imports)
            ],
        )

        #: None without the setting, as the queue of their uploads.
        self.attachments = self._add_attachments()
        self.uploads = self._add_uploads(self.attachments)

        self._add_outputs()
        encrypt(self, self.keys)

    def _add_outputs(self) -> None:
        self.add_output("ArchiveBucketName", self.archive.bucket.bucket_name)
        self.add_output("DeliveryStreamNames", ",".join(self.delivery.names))
        self.add_output("QueueUrl", self.events.queue.queue_url)
        self.add_output("ImportQueueUrl", self.imports.queue.queue_url)
        self.add_output("ImportDeadLetterQueueUrl", self.imports.dead_letters.queue_url)
        self.add_output("DeadLetterQueueUrl", self.events.dead_letters.queue_url)
        self.add_output("ReplayQueueUrl", self.replay.queue.queue_url)
        self.add_output("ReplayDeadLetterQueueUrl", self.replay.dead_letters.queue_url)

    def _add_records(self) -> RecordsTable | None:
        if self.settings.idempotency is None:
            return None
        records = RecordsTable(
            self,
            "Records",
            name_prefix=self.settings.prefix,
            is_protected=not self.settings.emulated,
        )
        self.add_output("IdempotencyTableName", records.name)
        return records

    def _add_attachments(self) -> AttachmentsBucket | None:
        settings = self.settings
        if settings.attachments is None:
            return None
        attachments = AttachmentsBucket(
            self,
            "Attachments",
            name_prefix=settings.prefix,
            settings=settings.attachments,
            cors_allow_origin=settings.api.cors_allow_origin,
        )
        self.add_output("AttachmentsBucketName", attachments.name)
        return attachments

    def _add_uploads(self, attachments: AttachmentsBucket | None) -> ArchiveEvents | None:
        if attachments is None:
            return None
        uploads = self._add_events(
            "UploadEvents",
            "upload-events",
            visibility_seconds=6 * self.settings.functions.imports.timeout_seconds,
        )
        attachments.notify(
            uploads.queue.queue_arn, after=[uploads.accept_events_of(attachments.arn)]
        )
        self.add_output("UploadQueueUrl", uploads.queue.queue_url)
        self.add_output("UploadDeadLetterQueueUrl", uploads.dead_letters.queue_url)
        return uploads

    def _add_events(
        self, construct_id: str, purpose: str, *, visibility_seconds: int
    ) -> ArchiveEvents:
        queue = self.settings.queue
        return ArchiveEvents(
            self,
            construct_id,
            name_prefix=self.settings.prefix,
            purpose=purpose,
            visibility_seconds=visibility_seconds,
            retention_days=queue.retention_days,
            dead_letter_retention_days=queue.dead_letter_retention_days,
            max_receives=queue.max_receives,
        )
