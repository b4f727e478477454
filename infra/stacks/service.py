"""ServiceStack: the stateless part. It can be deleted and deployed again without any loss."""

from __future__ import annotations

from collections.abc import Sequence
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
from infra.settings import PACKAGE_OF, FunctionName, Settings
from infra.stacks.attachments import grant_attachments, grant_sweep_of_uploads
from infra.stacks.base import EnvironmentStack
from infra.stacks.data import DataStack
from infra.stacks.database import DatabaseStack, Login, Reach, build_external_reach
from infra.stacks.variables import build_variables

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
            grant_sweep_of_uploads(data, self.sweep)
            self._connect_imports(data.uploads)
        self._grant_logins()
        self._grant_keys(data)
        if not settings.emulated:
            self._add_operator_policies(data, database)
        self._consume(data)
        self._deploy_consumer_first()
        # A standby's schema is replicated from the primary.
        if not settings.standby:
            self._add_migration()
            self._add_sweep_schedule()
        self.api = self._add_api(routes, user_pool_arn)
        if settings.deployment.has_canaries:
            self._add_canaries()
        self._add_outputs(database)
        encrypt(self, data.keys)

    def _add_function(self, construct_id: str, name: FunctionName) -> ProductFunction:
        size = self.settings.functions.of(name)
        code = PACKAGE_OF[name]
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

    def _deploy_consumer_first(self) -> None:
        """Deploy the consumer before the functions that accept commands.

        The consumer must know a resource or a schema version before clients can write it, so all
        of its calls must have moved to the new version.
        """
        for function in (self.write, self.imports):
            function.node.add_dependency(self.consumer.alias or self.consumer.function)

    def _add_migration(self) -> None:
        MigrationOnDeploy(
            self,
            "Migration",
            function=self.migrate.function,
            timeout_seconds=self.settings.functions.migrate.timeout_seconds,
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

    def _add_sweep_schedule(self) -> None:
        Schedule(
            self,
            "SweepSchedule",
            name=f"{self.settings.prefix}-sweep",
            function=self.sweep.function,
            every_minutes=self.settings.sweep.every_minutes,
        )

    def _add_api(self, routes: Sequence[Route], user_pool_arn: str | None) -> RoutesApi:
        settings = self.settings
        return RoutesApi(
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
        for events in filter(None, (data.events, data.imports, data.uploads)):
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
