"""The database on AWS: an RDS instance with read replicas, or an Aurora cluster.

Written with CloudFormation's own properties: the master user logs in by IAM token, so that there is
no password anywhere, which CDK's higher classes don't know yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_rds as rds
from constructs import Construct

from infra.components.findings import accept
from infra.components.network import POSTGRES_PORT, Network
from infra.database import AuroraDatabase, ManagedDatabase, RdsDatabase

DATABASE: Final = "forebay"
#: Owns the tables, and is used by the migration alone, which makes the other two.
OWNER: Final = "forebay_owner"
WRITER: Final = "forebay_write"
READER: Final = "forebay_read"
#: Where a function finds the certificates of RDS in its package.
CERTIFICATES: Final = "/var/task/rds-ca-bundle.pem"

_MONITORING_SECONDS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where a database's servers are, and what may log in to them."""

    #: The host that takes writes.
    primary: str
    #: Hosts to read from; several where the database balances nothing itself.
    replicas: tuple[str, ...]
    #: As IAM tokens name them: `db-…`, `cluster-…`, `prx-…`.
    primary_ids: tuple[str, ...]
    replica_ids: tuple[str, ...]

    def url(self, user: str) -> str:
        """The primary's address for a user, who proves himself with a token."""
        return _url(user, [self.primary])

    def replica_url(self, user: str) -> str:
        """The replicas' address for a user."""
        return _url(user, self.replicas)


def _url(user: str, hosts: list[str] | tuple[str, ...]) -> str:
    servers = ",".join(f"{host}:{POSTGRES_PORT}" for host in hosts)
    return (
        f"postgresql://{user}@{servers}/{DATABASE}?sslmode=verify-full&sslrootcert={CERTIFICATES}"
    )


class RdsInstances(Construct):
    """A primary, and as many read replicas as the settings say."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        network: Network,
        settings: RdsDatabase,
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, construct_id)
        self._name = name
        self._settings = settings
        self._network = network
        self._monitoring = _monitoring_role(self)
        self._parameters = rds.CfnDBParameterGroup(
            self,
            "Parameters",
            family=f"postgres{_major(settings.version)}",
            description=f"Forebay: {name}",
            parameters=parameters(settings),
        )
        self._subnets = _subnet_group(self, network)
        self._log_retention = log_retention
        self.primary = self._primary()
        replicas = [self._replica(number) for number in range(1, settings.replicas + 1)]
        read = replicas or [self.primary]
        self.servers = Servers(
            primary=self.primary.attr_endpoint_address,
            replicas=tuple(found.attr_endpoint_address for found in read),
            primary_ids=(self.primary.attr_dbi_resource_id,),
            replica_ids=tuple(found.attr_dbi_resource_id for found in read),
        )

    def _primary(self) -> rds.CfnDBInstance:
        settings = self._settings
        instance = rds.CfnDBInstance(
            self,
            "Primary",
            db_instance_identifier=self._name,
            db_name=DATABASE,
            engine="postgres",
            engine_version=settings.version,
            db_instance_class=f"db.{settings.instance_class}",
            master_username=OWNER,
            master_user_authentication_type="iam-db-auth",
            multi_az=settings.multi_az,
            allocated_storage=str(settings.storage_gibibytes),
            max_allocated_storage=settings.max_storage_gibibytes,
            db_subnet_group_name=self._subnets.ref,
            backup_retention_period=settings.backup_days,
            preferred_backup_window=settings.backup_window,
            delete_automated_backups=False,
            deletion_protection=settings.deletion_protection,
            storage_encrypted=True,
            **self._common(),
        )
        _survives(instance)
        _forget_logs(instance, f"instance/{self._name}", self._log_retention)
        _accept_findings(instance, settings, multi_az=settings.multi_az)
        return instance

    def _replica(self, number: int) -> rds.CfnDBInstance:
        settings = self._settings
        replica = rds.CfnDBInstance(
            self,
            f"Replica{number}",
            db_instance_identifier=f"{self._name}-replica-{number}",
            source_db_instance_identifier=self.primary.ref,
            db_instance_class=f"db.{settings.replica_class or settings.instance_class}",
            max_allocated_storage=settings.max_storage_gibibytes,
            **self._common(),
        )
        _may_go(replica)
        _forget_logs(replica, f"instance/{self._name}-replica-{number}", self._log_retention)
        _accept_findings(replica, settings, multi_az=False)
        accept(
            replica,
            {
                "AwsSolutions-RDS2": "A replica is encrypted as its source is.",
                "AwsSolutions-RDS10": "A replica holds nothing of its own, and a protected one "
                "could not be taken away by lowering the settings' number.",
            },
        )
        return replica

    def _common(self) -> dict[str, Any]:
        """What primary and replicas share: they must take each other's place."""
        settings = self._settings
        return {
            "db_parameter_group_name": self._parameters.ref,
            "vpc_security_groups": [self._network.servers.security_group_id],
            "enable_iam_database_authentication": True,
            "storage_type": "gp3",
            "publicly_accessible": False,
            "port": str(POSTGRES_PORT),
            "ca_certificate_identifier": "rds-ca-rsa2048-g1",
            "copy_tags_to_snapshot": True,
            "auto_minor_version_upgrade": True,
            "preferred_maintenance_window": settings.maintenance_window,
            "enable_cloudwatch_logs_exports": ["postgresql"],
            "enable_performance_insights": settings.insights_days is not None,
            "performance_insights_retention_period": settings.insights_days,
            "monitoring_interval": _MONITORING_SECONDS,
            "monitoring_role_arn": self._monitoring.role_arn,
        }


class AuroraCluster(Construct):
    """A writer and its readers on one storage, perhaps following a cluster elsewhere."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        network: Network,
        settings: AuroraDatabase,
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, construct_id)
        self._name = name
        self._settings = settings
        self._family = f"aurora-postgresql{_major(settings.version)}"
        self._monitoring = _monitoring_role(self)
        self.cluster = self._cluster(network)
        _forget_logs(self.cluster, f"cluster/{name}", log_retention)
        if settings.in_global is not None and settings.in_global.began_as == "primary":
            self._begin_global(settings.in_global.identifier)
        # A secondary has readers only, and needs one to be of use.
        count = max(1, settings.replicas) if settings.secondary else 1 + settings.replicas
        for number in range(count):
            self._instance(number)
        writer, reader = (
            self.cluster.attr_endpoint_address,
            self.cluster.attr_read_endpoint_address,
        )
        ids = (self.cluster.attr_db_cluster_resource_id,)
        self.servers = Servers(
            # The primary of a secondary is far away, where no route leads: ask what is near.
            primary=reader if settings.secondary else writer,
            # With no reader it leads to the writer, which the sessions notice.
            replicas=(reader,),
            primary_ids=ids,
            replica_ids=ids,
        )

    def _cluster(self, network: Network) -> rds.CfnDBCluster:
        settings = self._settings
        parameter_group = rds.CfnDBClusterParameterGroup(
            self,
            "Parameters",
            family=self._family,
            description=f"Forebay: {self._name}",
            parameters=parameters(settings),
        )
        cluster = rds.CfnDBCluster(
            self,
            "Cluster",
            db_cluster_identifier=self._name,
            engine="aurora-postgresql",
            engine_version=settings.version,
            db_cluster_parameter_group_name=parameter_group.ref,
            db_subnet_group_name=_subnet_group(self, network).ref,
            vpc_security_group_ids=[network.servers.security_group_id],
            enable_iam_database_authentication=True,
            storage_encrypted=True,
            storage_type="aurora-iopt1" if settings.io_optimized else None,
            serverless_v2_scaling_configuration=self._scaling(),
            backup_retention_period=settings.backup_days,
            preferred_backup_window=settings.backup_window,
            delete_automated_backups=False,
            copy_tags_to_snapshot=True,
            deletion_protection=settings.deletion_protection,
            preferred_maintenance_window=settings.maintenance_window,
            enable_cloudwatch_logs_exports=["postgresql"],
            port=POSTGRES_PORT,
            **self._origin(),
        )
        _survives(cluster)
        _accept_findings(cluster, settings, multi_az=True)
        return cluster

    def _origin(self) -> dict[str, Any]:
        """A new database with its owner, or the copy of one: its names then come from there.

        CloudFormation takes none of this back: another value would be another cluster.
        """
        global_settings = self._settings.in_global
        if global_settings is not None and global_settings.began_as == "secondary":
            return {
                "global_cluster_identifier": global_settings.identifier,
                # A key is of one region, so an encrypted copy must name one of its own.
                "kms_key_id": "alias/aws/rds",
            }
        return {
            "database_name": DATABASE,
            "master_username": OWNER,
            "master_user_authentication_type": "iam-db-auth",
        }

    def _begin_global(self, identifier: str) -> None:
        group = rds.CfnGlobalCluster(
            self,
            "Global",
            global_cluster_identifier=identifier,
            source_db_cluster_identifier=self.cluster.attr_db_cluster_arn,
            deletion_protection=self._settings.deletion_protection,
        )
        _survives(group)

    def _scaling(self) -> rds.CfnDBCluster.ServerlessV2ScalingConfigurationProperty | None:
        serverless = self._settings.serverless
        if serverless is None:
            return None
        return rds.CfnDBCluster.ServerlessV2ScalingConfigurationProperty(
            min_capacity=serverless.min_units,
            max_capacity=serverless.max_units,
            seconds_until_auto_pause=serverless.pause_after_seconds,
        )

    def _instance(self, number: int) -> None:
        settings = self._settings
        instance = rds.CfnDBInstance(
            self,
            f"Instance{number}",
            db_instance_identifier=f"{self._name}-{number}",
            db_cluster_identifier=self.cluster.ref,
            db_instance_class=(
                "db.serverless" if settings.serverless else f"db.{settings.instance_class}"
            ),
            engine="aurora-postgresql",
            # The first two may become the writer; serverless ones then are as large as it is.
            promotion_tier=min(number, 15),
            publicly_accessible=False,
            ca_certificate_identifier="rds-ca-rsa2048-g1",
            auto_minor_version_upgrade=True,
            preferred_maintenance_window=settings.maintenance_window,
            enable_performance_insights=settings.insights_days is not None,
            performance_insights_retention_period=settings.insights_days,
            monitoring_interval=_MONITORING_SECONDS,
            monitoring_role_arn=self._monitoring.role_arn,
        )
        accept(
            instance,
            {
                "AwsSolutions-RDS10": "The cluster is what is protected; its instances hold "
                "nothing.",
            },
        )


class Proxy(Construct):
    """RDS Proxy in front of the primary: functions share connections.

    It logs in as whoever asks, with a token of its own, so it knows no secret either.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        network: Network,
        target: RdsInstances | AuroraCluster,
    ) -> None:
        super().__init__(scope, construct_id)
        before = target.servers
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("rds.amazonaws.com"),
            inline_policies={
                "LogIn": iam.PolicyDocument(
                    statements=[
                        iam.PolicyStatement(
                            actions=["rds-db:connect"],
                            resources=[
                                login_arn(self, resource_id, user)
                                for resource_id in before.primary_ids
                                for user in (OWNER, WRITER, READER)
                            ],
                        )
                    ]
                )
            },
        )
        proxy = rds.CfnDBProxy(
            self,
            "Proxy",
            db_proxy_name=name,
            engine_family="POSTGRESQL",
            default_auth_scheme="IAM_AUTH",
            require_tls=True,
            role_arn=role.role_arn,
            vpc_subnet_ids=network.subnet_ids(),
            vpc_security_group_ids=[network.servers.security_group_id],
        )
        _may_go(proxy)
        group = rds.CfnDBProxyTargetGroup(
            self,
            "Target",
            db_proxy_name=proxy.ref,
            target_group_name="default",
            **_target(target),
        )
        if isinstance(target, AuroraCluster):
            group.node.add_dependency(*target.node.find_all())
        # From the proxy to the servers, which are of the same group.
        network.servers.connections.allow_internally(
            ec2.Port.tcp(POSTGRES_PORT), "RDS Proxy to the servers behind it"
        )
        shared = before.replicas == (before.primary,)
        # arn:aws:rds:region:account:db-proxy:prx-…
        proxy_id = cdk.Fn.select(6, cdk.Fn.split(":", proxy.attr_db_proxy_arn))
        self.servers = Servers(
            primary=proxy.attr_endpoint,
            replicas=(proxy.attr_endpoint,) if shared else before.replicas,
            primary_ids=(proxy_id,),
            replica_ids=(proxy_id,) if shared else before.replica_ids,
        )


def _target(target: RdsInstances | AuroraCluster) -> dict[str, Any]:
    if isinstance(target, AuroraCluster):
        return {"db_cluster_identifiers": [target.cluster.ref]}
    return {"db_instance_identifiers": [target.primary.ref]}


def parameters(settings: ManagedDatabase) -> Mapping[str, str]:
    """The server's parameters that differ from RDS's own defaults.

    Statement and lock timeouts are each connection's own (forebay/db/connect.py), because a
    migration, an apply and a read differ in them.
    """
    chosen = {
        "rds.force_ssl": "1",
        "max_connections": str(settings.max_connections),
        # A function that was frozen in a transaction must not hold its locks for ever.
        "idle_in_transaction_session_timeout": "60000",
        "log_min_duration_statement": str(settings.log_statements_milliseconds),
        # Written data is in the logs of nobody: places of parameters, not their values.
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "log_lock_waits": "1",
    }
    if isinstance(settings, RdsDatabase):
        chosen["max_standby_streaming_delay"] = str(settings.max_standby_delay_seconds * 1000)
    return chosen


def login_arn(scope: Construct, resource_id: str, user: str) -> str:
    """What a role must be allowed in order to log in as a user."""
    return cdk.Stack.of(scope).format_arn(
        service="rds-db",
        resource="dbuser",
        resource_name=f"{resource_id}/{user}",
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )


def _major(version: str) -> str:
    return version.partition(".")[0]


def _subnet_group(scope: Construct, network: Network) -> rds.CfnDBSubnetGroup:
    return rds.CfnDBSubnetGroup(
        scope,
        "Subnets",
        db_subnet_group_description="Subnets that lead nowhere",
        subnet_ids=network.subnet_ids(),
    )


def _monitoring_role(scope: Construct) -> iam.Role:
    role = iam.Role(
        scope,
        "Monitoring",
        assumed_by=iam.ServicePrincipal("monitoring.rds.amazonaws.com"),
        managed_policies=[
            iam.ManagedPolicy.from_aws_managed_policy_name(
                "service-role/AmazonRDSEnhancedMonitoringRole"
            )
        ],
    )
    accept(
        role,
        {
            "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/"
            "AmazonRDSEnhancedMonitoringRole]": "RDS asks for this very policy; it reaches the log "
            "group of enhanced monitoring and nothing else.",
        },
    )
    return role


def _may_go(resource: cdk.CfnResource) -> None:
    """Settings may take it away again, although functions know its address.

    CloudFormation refuses to delete what another stack imports, and the functions' stack, which
    would stop importing it, is deployed after this one. So they read the address when they are
    deployed, and meanwhile use another server.
    """
    resource.apply_cross_stack_reference_strength(cdk.ReferenceStrength.WEAK)


def _survives(resource: cdk.CfnResource) -> None:
    """Whatever happens to the stack, the data is there: a final snapshot is made first."""
    if isinstance(resource, rds.CfnGlobalCluster):
        resource.apply_removal_policy(cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE)
    else:
        resource.apply_removal_policy(cdk.RemovalPolicy.SNAPSHOT)


def _forget_logs(server: cdk.CfnResource, name: str, retention: logs.RetentionDays) -> None:
    """RDS would make the log group itself, and keep it for ever."""
    group = logs.LogGroup(
        server,
        "Log",
        log_group_name=f"/aws/rds/{name}/postgresql",
        retention=retention,
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )
    server.node.add_dependency(group)


def _accept_findings(server: Construct, settings: ManagedDatabase, *, multi_az: bool) -> None:
    reasons = {
        "AwsSolutions-RDS11": "Subnets lead nowhere and one security group is let in; another port "
        "than PostgreSQL's would hide nothing.",
        "AwsSolutions-SMG4": "There is no password: everyone logs in by IAM token.",
    }
    if not settings.deletion_protection:
        reasons["AwsSolutions-RDS10"] = "The environment says so; it is one that comes and goes."
    if not multi_az:
        reasons["AwsSolutions-RDS3"] = (
            "The environment says so, or it is a replica: others take its place."
        )
    accept(server, reasons)
