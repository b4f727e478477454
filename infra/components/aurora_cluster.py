"""The database on AWS as an Aurora cluster.

It uses CloudFormation's own properties, because CDK's higher classes don't support a master user
that logs in by IAM token, without any password.
"""

from __future__ import annotations

from typing import Any

from aws_cdk import aws_logs as logs
from aws_cdk import aws_rds as rds
from constructs import Construct

from infra.components.database_parts import (
    MONITORING_SECONDS,
    accept_findings,
    age_role,
    build_monitoring_role,
    build_parameters,
    build_subnet_group,
    forget_logs,
    parse_major,
    survives,
)
from infra.components.database_servers import DATABASE, OWNER, Servers
from infra.components.findings import accept
from infra.components.network import POSTGRES_PORT, Network
from infra.database import AuroraDatabase


class AuroraCluster(Construct):
    """A writer and its readers on one storage; optionally part of a global database."""

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
        self._family = f"aurora-postgresql{parse_major(settings.version)}"
        self._monitoring = build_monitoring_role(self)
        self.cluster = self._add_cluster(network)
        forget_logs(self.cluster, f"cluster/{name}", log_retention)
        if settings.in_global is not None and settings.in_global.began_as == "primary":
            self._begin_global(settings.in_global.identifier)
        # A secondary has readers only, and is of no use without one.
        count = max(1, settings.replicas) if settings.secondary else 1 + settings.replicas
        first, *others = [self._add_instance(number) for number in range(count)]
        for instance in others:
            # The first instance of a cluster becomes its writer.
            instance.node.add_dependency(first)
        writer, reader = (
            self.cluster.attr_endpoint_address,
            self.cluster.attr_read_endpoint_address,
        )
        ids = (self.cluster.attr_db_cluster_resource_id,)
        self.servers = Servers(
            # A secondary's primary is in another region, without a route to it: use the near
            # servers.
            primary=reader if settings.secondary else writer,
            # Without a reader this endpoint leads to the writer; the sessions detect that.
            replicas=(reader,),
            primary_ids=ids,
            replica_ids=ids,
        )

    def _add_cluster(self, network: Network) -> rds.CfnDBCluster:
        settings = self._settings
        parameter_group = rds.CfnDBClusterParameterGroup(
            self,
            # Not the id of RDS's group: CloudFormation refuses another type under the same id.
            "ClusterParameters",
            family=self._family,
            description=f"Forebay: {self._name}",
            parameters=build_parameters(settings),
        )
        subnet_group = build_subnet_group(self, network)
        age_role(self._monitoring, parameter_group, subnet_group)
        cluster = rds.CfnDBCluster(
            self,
            "Cluster",
            db_cluster_identifier=self._name,
            engine="aurora-postgresql",
            engine_version=settings.version,
            db_cluster_parameter_group_name=parameter_group.ref,
            db_subnet_group_name=subnet_group.ref,
            vpc_security_group_ids=[network.servers.security_group_id],
            enable_iam_database_authentication=True,
            storage_encrypted=True,
            storage_type="aurora-iopt1" if settings.io_optimized else None,
            serverless_v2_scaling_configuration=self._configure_scaling(),
            backup_retention_period=settings.backup_days,
            preferred_backup_window=settings.backup_window,
            delete_automated_backups=False,
            copy_tags_to_snapshot=True,
            deletion_protection=settings.deletion_protection,
            preferred_maintenance_window=settings.maintenance_window,
            enable_cloudwatch_logs_exports=["postgresql"],
            port=POSTGRES_PORT,
            **self._choose_origin(),
        )
        survives(cluster)
        accept_findings(cluster, settings, multi_az=True)
        return cluster

    def _choose_origin(self) -> dict[str, Any]:
        """The properties of a new database with its owner, or of a secondary, which inherits those.

        CloudFormation can't change these properties: another value would create another cluster.
        """
        global_settings = self._settings.in_global
        if global_settings is not None and global_settings.began_as == "secondary":
            return {
                "global_cluster_identifier": global_settings.identifier,
                # KMS keys are regional, so an encrypted copy must name a key of its own region.
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
        survives(group)

    def _configure_scaling(
        self,
    ) -> rds.CfnDBCluster.ServerlessV2ScalingConfigurationProperty | None:
        serverless = self._settings.serverless
        if serverless is None:
            return None
        return rds.CfnDBCluster.ServerlessV2ScalingConfigurationProperty(
            min_capacity=serverless.min_units,
            max_capacity=serverless.max_units,
            seconds_until_auto_pause=serverless.pause_after_seconds,
        )

    def _add_instance(self, number: int) -> rds.CfnDBInstance:
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
            # The first two may become the writer; if they are serverless, they scale with the
            # writer.
            promotion_tier=min(number, 15),
            publicly_accessible=False,
            ca_certificate_identifier="rds-ca-rsa2048-g1",
            auto_minor_version_upgrade=True,
            preferred_maintenance_window=settings.maintenance_window,
            enable_performance_insights=settings.insights_days is not None,
            performance_insights_retention_period=settings.insights_days,
            monitoring_interval=MONITORING_SECONDS,
            monitoring_role_arn=self._monitoring.role_arn,
        )
        accept(
            instance,
            {
                "AwsSolutions-RDS10": "The cluster is protected; its instances contain no data.",
            },
        )
        return instance
