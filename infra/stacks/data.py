"""DataStack: what must survive. Deleting the service leaves it alone."""

from __future__ import annotations

from constructs import Construct

from infra.components.archive import Archive
from infra.components.delivery import Delivery
from infra.components.queueing import ArchiveEvents
from infra.components.retention import log_retention
from infra.settings import Settings
from infra.stacks.base import EnvironmentStack


class DataStack(EnvironmentStack):
    """The archive, the stream that fills it, and the queue that tells of its objects."""

    def __init__(self, scope: Construct, *, settings: Settings) -> None:
        super().__init__(scope, "data", settings=settings, protected=True)
        self.archive = Archive(self, "Archive", name_prefix=settings.prefix)
        self.delivery = Delivery(
            self,
            "Delivery",
            name_prefix=settings.prefix,
            archive=self.archive,
            buffer_mebibytes=settings.stream.buffer_mebibytes,
            buffer_seconds=settings.stream.buffer_seconds,
            log_retention=log_retention(settings.logs.retention_days),
        )
        self.events = ArchiveEvents(
            self,
            "ArchiveEvents",
            name_prefix=settings.prefix,
            visibility_seconds=settings.visibility_seconds,
            retention_days=settings.queue.retention_days,
            dead_letter_retention_days=settings.queue.dead_letter_retention_days,
            max_receives=settings.queue.max_receives,
        )
        # Of its own, so that a replay neither waits for live traffic nor makes it wait.
        self.replay = ArchiveEvents(
            self,
            "Replay",
            name_prefix=settings.prefix,
            purpose="replay",
            visibility_seconds=settings.visibility_seconds,
            retention_days=settings.queue.retention_days,
            dead_letter_retention_days=settings.queue.dead_letter_retention_days,
            max_receives=settings.queue.max_receives,
        )
        policy = self.events.accept_events_of(self.archive.arn)
        self.archive.notify(self.events.queue.queue_arn, after=policy)

        self.output("ArchiveBucketName", self.archive.bucket.bucket_name)
        self.output("DeliveryStreamName", self.delivery.stream.ref)
        self.output("QueueUrl", self.events.queue.queue_url)
        self.output("DeadLetterQueueUrl", self.events.dead_letters.queue_url)
        self.output("ReplayQueueUrl", self.replay.queue.queue_url)
        self.output("ReplayDeadLetterQueueUrl", self.replay.dead_letters.queue_url)
