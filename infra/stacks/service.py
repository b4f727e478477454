"""ServiceStack: the stateless part. It can be deleted and deployed again without any loss."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_lambda_event_sources as event_sources
from constructs import Construct

from forebay.archive.layout import (
    COMMANDS_PREFIX,
    DECISIONS_PREFIX,
    IMPORTS_PREFIX,
    LEGACY_REJECTIONS_PREFIX,
    REPORT_SUFFIX,
)
from forebay.routes import Route
from infra.bundling import Packages
from infra.components.api import STAGE_NAME, RoutesApi
from infra.components.archive import ONLY_CREATE, ONLY_REPLACE
from infra.components.canaries import Canaries
from infra.components.database_servers import format_for_operators
from infra.components.edge_secret import make_edge_secrets
from infra.components.encryption import allow_reading, allow_writing, encrypt
from infra.components.functions import FunctionNetwork, ProductFunction
from infra.components.migration import MigrationOnDeploy
from infra.components.operators import OperatorPolicies
from infra.components.queueing import ArchiveEvents
from infra.components.read_cache import ReadCache
from infra.components.retention import log_retention
from infra.components.schedule import Schedule
from infra.components.watched import Watched
from infra.database import ExternalDatabase
from infra.deployment import CANARY_FUNCTIONS
from infra.front import ApiSettings, IamSettings
from infra.settings import FunctionName, PackageName, Settings
from infra.stacks.attachments import export_attachments, export_uploads, grant_attachments
from infra.stacks.base import EnvironmentStack
from infra.stacks.data import DataStack
from infra.stacks.database import DatabaseStack, Login, Reach, build_external_reach

#: How much later than the gateway Postgres cancels a statement. A function that fails first would
#: be answered 503, but a slow statement must be answered 504.
STATEMENT_GRACE_SECONDS = 1

#: Concurrent imports; Lambda's minimum is 2.
_IMPORTS_AT_ONCE = 2

#: The functions in the database's network; the others do not need it.
_USES_DATABASE = frozenset({"read", "status", "about", "firehose_consumer", "migrate", "sweep"})

#: The functions that put objects or send messages.
_WRITES_ENCRYPTED: Final[tuple[FunctionName, ...]] = (
    "write",
    "imports",
    "firehose_consumer",
    "sweep",
)

#: The functions that use the read cache.
_USES_CACHE = frozenset({"read", "status", "firehose_consumer", "migrate"})


class ServiceStack(EnvironmentStack):
    """The functions, the API in front of four of them, and the migration before all."""

    def __init__(
        self,
        scope: Construct,
        *,
        settings: Settings,
        data: DataStack,
        database: DatabaseStack | None = None,
        routes: Sequence[Route],
        packages: Packages,
        user_pool_arn: str | None = None,
    ) -> None:
        super().__init__(scope, "service", settings=settings, indented=False)
        self._packages = packages
        self._functions: dict[FunctionName, ProductFunction] = {}
        self._reach = self._find_reach(database)
        self._cache = self._add_read_cache()
        self._variables = build_variables(settings, data, self._reach, self.read_cache_url)

        self.write = self._add_function("Write", "write")
        self.read = self._add_function("Read", "read")
        # The same code with a concurrency of its own: waiting requests don't block reads.
        self.status = self._add_function("Status", "status")
        self.about = self._add_function("About", "about")
        self.imports = self._add_function("Imports", "imports")
        self.consumer = self._add_function("Consumer", "firehose_consumer")
        self.migrate = self._add_function("Migrate", "migrate")
        self.sweep = self._add_function("Sweep", "sweep")
        self._grant(data)
        if data.uploads is not None:
            grant_attachments(data, write=self.write, read=self.read, imports=self.imports)
            self._connect_imports(data.uploads)
        self._grant_logins()
        self._grant_keys(data)
        if not settings.emulated:
            self._add_operator_policies(data, database)
        self._consume(data)
        # The consumer must know a resource or a schema version before clients can write it, so all
        # of its calls must have moved to the new version.
        for function in (self.write, self.imports):
            function.node.add_dependency(self.consumer.alias or self.consumer.function)

        # A standby's schema is replicated from the primary.
        if not settings.standby:
            MigrationOnDeploy(
                self,
                "Migration",
                function=self.migrate.function,
                timeout_seconds=settings.functions.migrate.timeout_seconds,
                before=[
                    self.write.function,
                    self.read.function,
                    self.status.function,
                    self.about.function,
                    self.imports.function,
                    self.consumer.function,
                    self.sweep.function,
                ],
            )
            Schedule(
                self,
                "SweepSchedule",
                name=f"{settings.prefix}-sweep",
                function=self.sweep.function,
                every_minutes=settings.sweep.every_minutes,
            )
        self.api = RoutesApi(
            self,
            "RestApi",
            name=settings.prefix,
            routes=routes,
            functions={
                "read": self.read.target,
                "status": self.status.target,
                "write": self.write.target,
                "about": self.about.target,
            },
            settings=settings.api,
            read_timeout_seconds=settings.database.read_timeout_seconds,
            log_retention=log_retention(settings.logs.retention_days),
            user_pool_arn=user_pool_arn,
            known_by=make_edge_secrets(self, settings),
        )
        if settings.deployment.has_canaries:
            self._add_canaries()
        self._add_outputs(database)
        encrypt(self, data.keys)

    def _add_function(self, construct_id: str, name: FunctionName) -> ProductFunction:
        size = self.settings.functions.of(name)
        code: PackageName = "read" if name == "status" else name
        function = ProductFunction(
            self,
            construct_id,
            name=name,
            code=code,
            name_prefix=self.settings.prefix,
            package=self._packages(code),
            memory_mebibytes=size.memory_mebibytes,
            timeout_seconds=size.timeout_seconds,
            reserved_concurrency=self._choose_concurrency(name),
            traces=self.settings.logs.traces,
            snap_start=size.snap_start,
            provisioned_concurrency=size.provisioned_concurrency,
            has_canary=self.settings.deployment.has_canaries and name in CANARY_FUNCTIONS,
            network=self._find_network(name) if name in _USES_DATABASE else None,
            environment=self._variables[name],
            log_level=self.settings.logs.level,
            log_retention=log_retention(self.settings.logs.retention_days),
        )
        self._functions[name] = function
        return function

    def _add_canaries(self) -> None:
        Canaries(
            self,
            "Canaries",
            watched=Watched.of(self.settings),
            settings=self.settings.deployment,
            runbooks_url=self.settings.operations.runbooks_url,
            functions={name: self._functions[name] for name in CANARY_FUNCTIONS},
        )

    def _choose_concurrency(self, name: FunctionName) -> int | None:
        """A standby accepts no writes: with a concurrency of 0, the gateway answers 503."""
        if self.settings.standby and name == "write":
            return 0
        return self.settings.functions.of(name).reserved_concurrency

    def _find_reach(self, database: DatabaseStack | None) -> Reach:
        if database is not None:
            return database.reach
        assert isinstance(self.settings.database, ExternalDatabase)  # noqa: S101 - the only other
        return build_external_reach(self, self.settings.database)

    def _add_read_cache(self) -> ReadCache | None:
        """The cache's servers on AWS; None if the settings have none."""
        settings, reach = self.settings, self._reach
        if settings.read_cache is None or settings.emulated:
            return None
        assert reach.vpc is not None  # noqa: S101 - the settings were checked
        assert reach.subnets is not None  # noqa: S101
        assert reach.cache_clients is not None  # noqa: S101
        return ReadCache(
            self,
            "ReadCache",
            name=settings.prefix,
            vpc=reach.vpc,
            subnets=reach.subnets,
            clients=reach.cache_clients,
            settings=settings.read_cache,
        )

    @property
    def read_cache_url(self) -> str | None:
        """The read cache's address; None without one."""
        if self._cache is not None:
            return self._cache.url
        return None if self.settings.read_cache is None else self.settings.read_cache.address

    @property
    def read_cache_clients_id(self) -> str | None:
        """The security group of the cache's clients; None without a cache on AWS."""
        return None if self._cache is None else self._cache.clients.security_group_id

    def _find_network(self, name: FunctionName) -> FunctionNetwork | None:
        reach = self._reach
        if reach.vpc is None or reach.subnets is None or reach.security_group is None:
            return None
        groups = [reach.security_group]
        if self._cache is not None and name in _USES_CACHE:
            groups.append(self._cache.clients)
        return FunctionNetwork(vpc=reach.vpc, subnets=reach.subnets, security_groups=groups)

    def _grant_logins(self) -> None:
        """Let each function log in as one user; functions that only read can't be the writer."""
        reach = self._reach
        self._may_log_in(self.read, reach.replicas, reach.reader)
        self._may_log_in(self.status, reach.replicas, reach.reader)
        self._may_log_in(self.about, reach.replicas)
        self._may_log_in(self.consumer, reach.writer)
        self._may_log_in(self.migrate, reach.owner)
        self._may_log_in(self.sweep, reach.reader)
        for function in (self.read, self.status, self.consumer, self.migrate):
            for arn in self._cache.arns if self._cache is not None else ():
                function.allow("elasticache:Connect", on=arn)

    def _grant_keys(self, data: DataStack) -> None:
        """Let every function read its variables, and some what is stored, or store more."""
        for function in self._functions.values():
            function.allow_statements(allow_reading(data.keys))
        for name in _WRITES_ENCRYPTED:
            to_table = name == "write" and data.records is not None
            statements = allow_writing(data.keys, to_table=to_table)
            self._functions[name].allow_statements(statements)

    @staticmethod
    def _may_log_in(function: ProductFunction, *logins: Login) -> None:
        for arn in dict.fromkeys(arn for login in logins for arn in login.arns):
            function.allow("rds-db:connect", on=arn)

    def _grant(self, data: DataStack) -> None:
        """Grant the functions' permissions; reads need none beyond the database's."""
        archive = data.archive
        for stream in data.delivery.arns:
            self.write.allow("firehose:PutRecord", "firehose:PutRecordBatch", on=stream)
        self.write.allow("s3:PutObject", on=archive.objects(COMMANDS_PREFIX), where=ONLY_CREATE)
        if data.records is not None:
            self.write.allow(
                "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", on=data.records.arn
            )
        only_commands = {"StringEquals": {"s3:prefix": COMMANDS_PREFIX}}
        self.about.allow("s3:ListBucket", on=archive.arn, where=only_commands)
        self.imports.allow(
            "s3:GetObject", "s3:GetObjectVersion", on=archive.objects(IMPORTS_PREFIX)
        )
        self.imports.allow("s3:PutObject", on=archive.objects(COMMANDS_PREFIX), where=ONLY_CREATE)
        # The decisions of another run of an import.
        self.imports.allow("s3:GetObject", on=f"{archive.arn}/{COMMANDS_PREFIX}*/import-*")
        for condition in (ONLY_CREATE, ONLY_REPLACE):
            self.imports.allow(
                "s3:PutObject",
                on=f"{archive.objects(IMPORTS_PREFIX)}{REPORT_SUFFIX}",
                where=condition,
            )
        self.consumer.allow("s3:GetObject", on=archive.objects(COMMANDS_PREFIX))
        self.consumer.allow("s3:PutObject", on=archive.objects(DECISIONS_PREFIX), where=ONLY_CREATE)
        # Decisions of another database, or of a run that failed before its commit.
        prefixes = {"StringEquals": {"s3:prefix": [DECISIONS_PREFIX, LEGACY_REJECTIONS_PREFIX]}}
        self.consumer.allow("s3:ListBucket", on=archive.arn, where=prefixes)
        for folder in (DECISIONS_PREFIX, LEGACY_REJECTIONS_PREFIX):
            self.consumer.allow("s3:GetObject", on=archive.objects(folder))
        self.about.allow("sqs:GetQueueAttributes", on=data.events.dead_letters.queue_arn)
        sweep_prefixes = {"StringEquals": {"s3:prefix": [COMMANDS_PREFIX, IMPORTS_PREFIX]}}
        self.sweep.allow("s3:ListBucket", on=archive.arn, where=sweep_prefixes)
        for events in (data.events, data.imports):
            self.sweep.allow("sqs:SendMessage", "sqs:GetQueueAttributes", on=events.queue.queue_arn)
            self.sweep.allow(
                "sqs:ReceiveMessage",
                "sqs:ChangeMessageVisibility",
                "sqs:GetQueueAttributes",
                on=events.dead_letters.queue_arn,
            )

    def _add_operator_policies(self, data: DataStack, database: DatabaseStack | None) -> None:
        reach = self._reach
        OperatorPolicies(
            self,
            "Operators",
            name_prefix=self.settings.prefix,
            stacks=[stack.stack_name for stack in (data, self, database) if stack is not None],
            archive=data.archive,
            streams=data.delivery.arns,
            queues=[
                queue
                for queue in (data.events, data.replay, data.imports, data.uploads)
                if queue is not None
            ],
            attachments=data.attachments,
            logins=(*reach.writer.arns, *reach.replicas.arns),
            owner_logins=reach.owner.arns,
            read_cache=self._cache.arns if self._cache is not None else (),
            keys=data.keys,
        )

    def _consume(self, data: DataStack) -> None:
        """Connect the queues to the consumer, which may then receive and delete their messages."""
        consumer = self.settings.consumer
        for events, max_concurrency in (
            (data.events, consumer.max_concurrency),
            (data.replay, self.settings.replay.max_concurrency),
        ):
            self.consumer.entry.add_event_source(
                event_sources.SqsEventSource(
                    events.queue,
                    # In a standby, events of copied objects wait in the queue until it is promoted.
                    enabled=not self.settings.standby,
                    batch_size=consumer.batch_size,
                    max_batching_window=cdk.Duration.seconds(consumer.window_seconds),
                    max_concurrency=max_concurrency,
                    report_batch_item_failures=True,
                )
            )

        self._connect_imports(data.imports)

    def _connect_imports(self, events: ArchiveEvents) -> None:
        self.imports.entry.add_event_source(
            event_sources.SqsEventSource(
                events.queue,
                enabled=not self.settings.standby,
                # A file may need all of the function's time.
                batch_size=1,
                max_concurrency=_IMPORTS_AT_ONCE,
                report_batch_item_failures=True,
            )
        )

    def _add_outputs(self, database: DatabaseStack | None) -> None:
        if database is not None:
            # Other database stacks may be left from earlier settings.
            self.add_output("DatabaseStackName", database.stack_name)
        else:
            self.add_output("DatabaseUrl", format_for_operators(self._reach.writer.url))
            self.add_output("ReplicaUrl", format_for_operators(self._reach.replicas.url))
        if self._cache is not None:
            self.add_output("ReadCacheUrl", self._cache.url)
        self.add_output("ApiId", self.api.api.rest_api_id)
        self.add_output("StageName", STAGE_NAME)
        self.add_output("ApiKeyId", self.api.api_key.key_id)
        self.add_output("WriteFunctionName", self.write.function.function_name)
        self.add_output("ReadFunctionName", self.read.function.function_name)
        self.add_output("StatusFunctionName", self.status.function.function_name)
        self.add_output("AboutFunctionName", self.about.function.function_name)
        self.add_output("ImportsFunctionName", self.imports.function.function_name)
        self.add_output("ConsumerFunctionName", self.consumer.function.function_name)
        self.add_output("MigrateFunctionName", self.migrate.function.function_name)
        self.add_output("SweepFunctionName", self.sweep.function.function_name)


def build_variables(
    settings: Settings, data: DataStack, reach: Reach, read_cache_url: str | None
) -> Mapping[FunctionName, Mapping[str, str]]:
    """The environment variables of each function: exactly those that its settings read."""
    replicas = {"FOREBAY_REPLICA_URL": reach.replicas.url}
    archive = {"FOREBAY_ARCHIVE_BUCKET": data.archive.bucket.bucket_name}
    buffer = {"FOREBAY_BUFFER_SECONDS": str(settings.stream.buffer_seconds)}
    cors = {"FOREBAY_CORS_ALLOW_ORIGIN": settings.api.cors_allow_origin}
    stream = {"FOREBAY_STREAMS": ",".join(data.delivery.names)}
    if settings.stream.endpoint is not None:
        stream["AWS_ENDPOINT_URL_FIREHOSE"] = settings.stream.endpoint
    cache = {} if read_cache_url is None else {"FOREBAY_READ_CACHE": read_cache_url}
    attachments = export_attachments(settings, data)
    reading = {
        "FOREBAY_DATABASE_URL": reach.reader.url,
        "FOREBAY_WAIT_CAP_SECONDS": str(settings.wait_cap_seconds),
        "FOREBAY_STATEMENT_TIMEOUT_SECONDS": str(
            settings.database.read_timeout_seconds + STATEMENT_GRACE_SECONDS
        ),
        **_export_authorization(settings.api),
        **_export_dotted(settings.api),
        **replicas,
        **buffer,
        **cors,
        **cache,
        **attachments,
    }
    by_function: Mapping[FunctionName, Mapping[str, str]] = {
        "write": {
            **stream,
            **archive,
            **buffer,
            **cors,
            **_export_idempotency(settings, data),
            **_export_max_body(settings),
            **attachments,
            **_export_authorization(settings.api),
        },
        "read": reading,
        "status": reading,
        "about": {
            "FOREBAY_REQUIRE_API_KEY": "true" if settings.api.require_api_key else "false",
            # Delays that raise an alarm need an operator in the status too.
            "FOREBAY_STATUS_ATTENTION_SECONDS": str(settings.operations.apply_lag_seconds),
            "FOREBAY_DEAD_LETTER_QUEUE_URL": data.events.dead_letters.queue_url,
            **_export_dotted(settings.api),
            **replicas,
            **archive,
            **cors,
        },
        "imports": {**archive, **export_uploads(data, stream)},
        "firehose_consumer": {
            "FOREBAY_DATABASE_URL": reach.writer.url,
            "FOREBAY_QUEUE_URL": data.events.queue.queue_url,
            **archive,
            **cache,
        },
        "migrate": {
            "FOREBAY_DATABASE_URL": reach.owner.url,
            **cache,
            **({"FOREBAY_USERS": ",".join(reach.made_users)} if reach.made_users else {}),
        },
        "sweep": {
            "FOREBAY_DATABASE_URL": reach.reader.url,
            **archive,
            **_export_queues(data),
            **_export_sweep(settings),
        },
    }
    return {name: {"FOREBAY_ENV": settings.name, **by_function[name]} for name in by_function}


def _export_idempotency(settings: Settings, data: DataStack) -> Mapping[str, str]:
    """The variables of the idempotency records; empty without a table."""
    idempotency = settings.idempotency
    if idempotency is None or data.records is None:
        return {}
    return {
        "FOREBAY_IDEMPOTENCY_TABLE": data.records.name,
        "FOREBAY_IDEMPOTENCY_RETENTION_SECONDS": str(idempotency.retention_hours * 3600),
        "FOREBAY_IDEMPOTENCY_REQUIRED": (
            "true" if idempotency.when_unavailable == "refuse" else "false"
        ),
    }


def _export_max_body(settings: Settings) -> Mapping[str, str]:
    """The edge's limit, for bodies whose length the edge can't see; empty without an edge.

    A chunked body has no `Content-Length` (RFC 9112 §7.1), and HTTP/2 does not require one.
    """
    if settings.edge is None:
        return {}
    return {"FOREBAY_MAX_BODY_BYTES": str(settings.edge.max_body_bytes)}


def _export_authorization(api: ApiSettings) -> Mapping[str, str]:
    """The variables by which a function determines which other resources a caller may use."""
    kind: dict[str, str] = {"FOREBAY_AUTHORIZATION": api.authorization.kind}
    if isinstance(api.authorization, IamSettings) and api.authorization.principals:
        principals = {arn: list(scopes) for arn, scopes in api.authorization.principals.items()}
        kind["FOREBAY_PRINCIPALS"] = json.dumps(principals, separators=(",", ":"))
    return kind


def _export_dotted(api: ApiSettings) -> Mapping[str, str]:
    """The variable by which functions see no dotted parameters; empty if the API has them."""
    return {} if api.dotted_parameters else {"FOREBAY_DOTTED_PARAMETERS": "false"}


def _export_queues(data: DataStack) -> Mapping[str, str]:
    return {
        "FOREBAY_QUEUE_URL": data.events.queue.queue_url,
        "FOREBAY_DEAD_LETTER_QUEUE_URL": data.events.dead_letters.queue_url,
        "FOREBAY_IMPORT_QUEUE_URL": data.imports.queue.queue_url,
        "FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL": data.imports.dead_letters.queue_url,
    }


def _export_sweep(settings: Settings) -> Mapping[str, str]:
    sweep = settings.sweep
    return {
        "FOREBAY_SWEEP_GRACE_SECONDS": str(sweep.grace_seconds),
        "FOREBAY_SWEEP_LOOKBACK_SECONDS": str(sweep.lookback_hours * 3600),
        "FOREBAY_SWEEP_PATIENCE_SECONDS": str(sweep.patience_minutes * 60),
    }
