"""ServiceStack: what computes. It can be deleted and deployed again without losing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_lambda_event_sources as event_sources
from constructs import Construct

from forebay.routes import Route
from infra.bundling import Packages
from infra.components.api import STAGE_NAME, RoutesApi
from infra.components.archive import COMMANDS, REJECTIONS
from infra.components.edge_secret import make_edge_secrets
from infra.components.functions import ProductFunction
from infra.components.migration import MigrationOnDeploy
from infra.components.retention import log_retention
from infra.settings import FunctionName, Settings
from infra.stacks.base import EnvironmentStack
from infra.stacks.data import DataStack

#: Postgres cancels a statement so much later than the gateway stops waiting for it: a function that
#: fails first would be answered 503, and what took too long is a 504.
STATEMENT_GRACE_SECONDS = 1


class ServiceStack(EnvironmentStack):
    """The functions, the API in front of two of them, and the migration before all."""

    def __init__(
        self,
        scope: Construct,
        *,
        settings: Settings,
        data: DataStack,
        routes: Sequence[Route],
        packages: Packages,
        user_pool_arn: str | None = None,
    ) -> None:
        super().__init__(scope, "service", settings=settings)
        self._packages = packages
        self._variables = variables(settings, data)

        self.write = self._function("Write", "write")
        self.read = self._function("Read", "read")
        self.about = self._function("About", "about")
        self.consumer = self._function("Consumer", "firehose_consumer")
        self.migrate = self._function("Migrate", "migrate")
        self._grant(data)
        self._consume(data)
        # The consumer must know a resource or a schema version before anyone can write it.
        self.write.node.add_dependency(self.consumer.function)

        MigrationOnDeploy(
            self,
            "Migration",
            function=self.migrate.function,
            timeout_seconds=settings.functions.migrate.timeout_seconds,
            before=[
                self.write.function,
                self.read.function,
                self.about.function,
                self.consumer.function,
            ],
        )
        self.api = RoutesApi(
            self,
            "RestApi",
            name=settings.prefix,
            routes=routes,
            functions={
                "read": self.read.function,
                "write": self.write.function,
                "about": self.about.function,
            },
            settings=settings.api,
            read_timeout_seconds=settings.database.read_timeout_seconds,
            log_retention=log_retention(settings.logs.retention_days),
            user_pool_arn=user_pool_arn,
            known_by=make_edge_secrets(self, settings),
        )
        self._outputs()

    def _function(self, construct_id: str, name: FunctionName) -> ProductFunction:
        size = self.settings.functions.of(name)
        return ProductFunction(
            self,
            construct_id,
            name=name,
            name_prefix=self.settings.prefix,
            package=self._packages(name),
            memory_mebibytes=size.memory_mebibytes,
            timeout_seconds=size.timeout_seconds,
            reserved_concurrency=size.reserved_concurrency,
            environment=self._variables[name],
            log_level=self.settings.logs.level,
            log_retention=log_retention(self.settings.logs.retention_days),
        )

    def _grant(self, data: DataStack) -> None:
        """All that the functions may do; reading takes no permission beyond the database's."""
        stream, archive = data.delivery.stream.attr_arn, data.archive
        self.write.allow("firehose:PutRecord", "firehose:PutRecordBatch", on=stream)
        self.write.allow("s3:PutObject", on=archive.objects(COMMANDS))
        self.about.allow(
            "s3:ListBucket", on=archive.arn, where={"StringEquals": {"s3:prefix": COMMANDS}}
        )
        self.consumer.allow("s3:GetObject", on=archive.objects(COMMANDS))
        self.consumer.allow("s3:PutObject", on=archive.objects(REJECTIONS))

    def _consume(self, data: DataStack) -> None:
        """Feeds the consumer, which may then receive and delete the queue's messages."""
        consumer = self.settings.consumer
        self.consumer.function.add_event_source(
            event_sources.SqsEventSource(
                data.events.queue,
                batch_size=consumer.batch_size,
                max_batching_window=cdk.Duration.seconds(consumer.window_seconds),
                max_concurrency=consumer.max_concurrency,
                report_batch_item_failures=True,
            )
        )

    def _outputs(self) -> None:
        self.output("ApiId", self.api.api.rest_api_id)
        self.output("StageName", STAGE_NAME)
        self.output("ApiKeyId", self.api.api_key.key_id)
        self.output("WriteFunctionName", self.write.function.function_name)
        self.output("ReadFunctionName", self.read.function.function_name)
        self.output("AboutFunctionName", self.about.function.function_name)
        self.output("ConsumerFunctionName", self.consumer.function.function_name)
        self.output("MigrateFunctionName", self.migrate.function.function_name)


def variables(settings: Settings, data: DataStack) -> Mapping[FunctionName, Mapping[str, str]]:
    """What each function is told: exactly the variables that its own settings read."""
    database = {"FOREBAY_DATABASE_URL": settings.database.url}
    archive = {"FOREBAY_ARCHIVE_BUCKET": data.archive.bucket.bucket_name}
    buffer = {"FOREBAY_BUFFER_SECONDS": str(settings.stream.buffer_seconds)}
    cors = {"FOREBAY_CORS_ALLOW_ORIGIN": settings.api.cors_allow_origin}
    stream = {"FOREBAY_STREAM": data.delivery.stream.ref}
    if settings.stream.endpoint is not None:
        stream["AWS_ENDPOINT_URL_FIREHOSE"] = settings.stream.endpoint
    own: Mapping[FunctionName, Mapping[str, str]] = {
        "write": {**stream, **archive, **buffer, **cors},
        "read": {
            "FOREBAY_REPLICA_URL": settings.database.replica_url,
            "FOREBAY_STATEMENT_TIMEOUT_SECONDS": str(
                settings.database.read_timeout_seconds + STATEMENT_GRACE_SECONDS
            ),
            **database,
            **buffer,
            **cors,
        },
        "about": {
            "FOREBAY_REPLICA_URL": settings.database.replica_url,
            "FOREBAY_REQUIRE_API_KEY": "true" if settings.api.require_api_key else "false",
            **archive,
            **cors,
        },
        "firehose_consumer": {**database, **archive},
        "migrate": database,
    }
    return {name: {"FOREBAY_ENV": settings.name, **own[name]} for name in own}
