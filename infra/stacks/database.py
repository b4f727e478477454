"""DatabaseStack: the network with the database, if the environment creates its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from infra.components.aurora_cluster import AuroraCluster
from infra.components.database_proxy import Proxy
from infra.components.database_servers import (
    OWNER,
    READER,
    WRITER,
    build_login_arn,
    format_for_operators,
)
from infra.components.encryption import Keys, encrypt
from infra.components.network import Network
from infra.components.rds_instances import RdsInstances
from infra.components.retention import log_retention
from infra.components.runner import name_log_group
from infra.database import ExternalDatabase, ManagedDatabase, RdsDatabase
from infra.settings import Settings
from infra.stacks.base import EnvironmentStack


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A function's address of the database, and its permissions to log in."""

    url: str
    #: The resources for `rds-db:connect`; empty if the database doesn't use IAM.
    arns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The database from the functions' point of view."""

    owner: Login
    writer: Login
    #: The primary, for functions that only read.
    reader: Login
    replicas: Login
    #: Users that the migration creates; empty if they are managed elsewhere.
    made_users: tuple[str, ...] = ()
    #: The network of functions that use the database; None if they are outside of any.
    vpc: ec2.IVpc | None = None
    subnets: ec2.SubnetSelection | None = None
    security_group: ec2.ISecurityGroup | None = None
    #: The additional group of functions that use the read cache; None for an external database.
    cache_clients: ec2.ISecurityGroup | None = None


class DatabaseStack(EnvironmentStack):
    """The network, the database, and optionally a proxy."""

    def __init__(
        self,
        scope: Construct,
        *,
        settings: Settings,
        database: ManagedDatabase,
        archive_arn: str,
        attachments_arn: str | None = None,
        keys: Keys,
    ) -> None:
        super().__init__(scope, settings.database_role, settings=settings, protected=True)
        retention = log_retention(settings.logs.retention_days)
        self.network = Network(
            self,
            "Network",
            settings=database.network,
            archive_arn=archive_arn,
            attachments_arn=attachments_arn,
            log_retention=retention,
        )
        self._add_endpoint_of_queues()
        if settings.operations.runner:
            self._add_endpoints_of_runner()
        kind = RdsInstances if isinstance(database, RdsDatabase) else AuroraCluster
        self.database: RdsInstances | AuroraCluster = kind(
            self,
            "Database",
            name=settings.server_name,
            network=self.network,
            settings=database,  # type: ignore[arg-type] # each kind is given its own
            log_retention=retention,
        )
        self.servers = self.database.servers
        if database.proxy:
            proxy = Proxy(
                self, "Proxy", name=settings.server_name, network=self.network, target=self.database
            )
            # A migration holds its session for long, and its locks belong to the session.
            self._direct, self.servers = self.servers, proxy.servers
        else:
            self._direct = self.servers
        self.add_output("OwnerUrl", format_for_operators(self.reach.owner.url))
        self.add_output("DatabaseUrl", format_for_operators(self.reach.writer.url))
        self.add_output("ReplicaUrl", format_for_operators(self.reach.replicas.url))
        encrypt(self, keys)

    def _add_endpoint_of_queues(self) -> None:
        """Let the sweep, which reads the ledger in the network, and operators reach the queues."""
        self.network.add_interface(
            "Sqs",
            ec2.InterfaceVpcEndpointAwsService.SQS,
            actions=[
                "sqs:ChangeMessageVisibility",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ReceiveMessage",
                "sqs:SendMessage",
            ],
            on=self.format_arn(service="sqs", resource=f"{self.settings.prefix}-*"),
        )

    def _add_endpoints_of_runner(self) -> None:
        """Let the runner fetch its code, write its log, and read what `forebay status` reports.

        Without internet, a build that can't reach its log or its source hangs.
        """
        prefix, services = self.settings.prefix, ec2.InterfaceVpcEndpointAwsService
        self.network.add_interface(
            "Logs",
            services.CLOUDWATCH_LOGS,
            actions=["logs:CreateLogStream", "logs:PutLogEvents"],
            on=self.format_arn(
                service="logs",
                resource="log-group",
                resource_name=f"{name_log_group(prefix)}:*",
                arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
            ),
        )
        self.network.add_interface(
            "Monitoring",
            services.CLOUDWATCH_MONITORING,
            actions=["cloudwatch:GetMetricData"],
            on="*",
        )
        self.network.add_interface(
            "Firehose",
            services.KINESIS_FIREHOSE,
            actions=["firehose:DescribeDeliveryStream"],
            on=self.format_arn(
                service="firehose", resource="deliverystream", resource_name=f"{prefix}-*"
            ),
        )
        self.network.allow_reading(f"{_name_assets_bucket()}/*")

    @property
    def reach(self) -> Reach:
        """The database from the functions' point of view."""
        direct, servers = self._direct, self.servers
        return Reach(
            owner=Login(url=direct.url(OWNER), arns=self._build_arns(direct.primary_ids, OWNER)),
            writer=Login(
                url=servers.url(WRITER), arns=self._build_arns(servers.primary_ids, WRITER)
            ),
            reader=Login(
                url=servers.url(READER), arns=self._build_arns(servers.primary_ids, READER)
            ),
            replicas=Login(
                url=servers.replica_url(READER), arns=self._build_arns(servers.replica_ids, READER)
            ),
            made_users=(WRITER, READER),
            vpc=self.network.vpc,
            subnets=ec2.SubnetSelection(subnets=self.network.used_subnets),
            security_group=self.network.clients,
            cache_clients=self.network.cache_clients,
        )

    def _build_arns(self, resource_ids: tuple[str, ...], user: str) -> tuple[str, ...]:
        return tuple(build_login_arn(self, resource_id, user) for resource_id in resource_ids)


def _name_assets_bucket() -> str:
    """The ARN of the bucket of `cdk bootstrap`, which contains the runner's code."""
    qualifier = cdk.DefaultStackSynthesizer.DEFAULT_QUALIFIER
    return (
        f"arn:{cdk.Aws.PARTITION}:s3:::cdk-{qualifier}-assets-{cdk.Aws.ACCOUNT_ID}-{cdk.Aws.REGION}"
    )


def build_external_reach(scope: EnvironmentStack, database: ExternalDatabase) -> Reach:
    """An existing database, from the point of view of the stack's functions."""

    def login(url: str) -> Login:
        user = urlsplit(url).username or ""
        return Login(
            url=url,
            arns=tuple(
                build_login_arn(scope, resource_id, user) for resource_id in database.resource_ids
            ),
        )

    reach = Reach(
        owner=login(database.owner_url or database.url),
        writer=login(database.url),
        reader=login(database.reader_url or database.url),
        replicas=login(database.replica_url),
    )
    if database.network is None:
        return reach
    network = database.network
    vpc = ec2.Vpc.from_vpc_attributes(
        scope,
        "Vpc",
        vpc_id=network.vpc_id,
        # The zones are not used here, and looking them up would be a request to AWS.
        availability_zones=[f"zone-{number}" for number in range(len(network.subnet_ids))],
        isolated_subnet_ids=list(network.subnet_ids),
    )
    return replace(
        reach,
        vpc=vpc,
        subnets=ec2.SubnetSelection(subnets=vpc.isolated_subnets),
        security_group=ec2.SecurityGroup.from_security_group_id(
            scope, "Clients", network.security_group_id, mutable=False
        ),
    )
