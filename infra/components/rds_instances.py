"""The database on AWS as an RDS instance with read replicas.

It uses CloudFormation's own properties, because CDK's higher classes don't support a master user
that logs in by IAM token, without any password.
"""

from __future__ import annotations

from itertools import pairwise
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
from infra.database import RdsDatabase


class RdsInstances(Construct):
    """A primary, and the read replicas that the settings request."""

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
        self._monitoring = build_monitoring_role(self)
        self._parameters = rds.CfnDBParameterGroup(
            self,
            "Parameters",
            family=f"postgres{parse_major(settings.version)}",
            description=f"Forebay: {name}",
            parameters=build_parameters(settings),
        )
        self._subnets = build_subnet_group(self, network)
        age_role(self._monitoring, self._parameters, self._subnets)
        self._log_retention = log_retention
        self.primary = self._add_primary()
        replicas = [self._add_replica(number) for number in range(1, settings.replicas + 1)]
        # RDS refuses a replica of a primary from which it is making another one
        # (InvalidDBInstanceState, which CloudFormation does not retry).
        for earlier, later in pairwise(replicas):
            later.node.add_dependency(earlier)
        readable = replicas or [self.primary]
        self.servers = Servers(
            primary=self.primary.attr_endpoint_address,
            replicas=tuple(instance.attr_endpoint_address for instance in readable),
            primary_ids=(self.primary.attr_dbi_resource_id,),
            replica_ids=tuple(instance.attr_dbi_resource_id for instance in readable),
        )

    def _add_primary(self) -> rds.CfnDBInstance:
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
            **self._get_common_properties(),
        )
        survives(instance)
        forget_logs(instance, f"instance/{self._name}", self._log_retention)
        accept_findings(instance, settings, multi_az=settings.multi_az)
        return instance

    def _add_replica(self, number: int) -> rds.CfnDBInstance:
        settings = self._settings
        replica = rds.CfnDBInstance(
            self,
            f"Replica{number}",
            db_instance_identifier=f"{self._name}-replica-{number}",
            source_db_instance_identifier=self.primary.ref,
            db_instance_class=f"db.{settings.replica_class or settings.instance_class}",
            max_allocated_storage=settings.max_storage_gibibytes,
            **self._get_common_properties(),
        )
        forget_logs(replica, f"instance/{self._name}-replica-{number}", self._log_retention)
        accept_findings(replica, settings, multi_az=False)
        accept(
            replica,
            {
                "AwsSolutions-RDS2": "A replica is encrypted if its source is encrypted.",
                "AwsSolutions-RDS10": "A replica contains no data of its own, and protection "
                "would prevent its removal by a smaller number in the settings.",
            },
        )
        return replica

    def _get_common_properties(self) -> dict[str, Any]:
        """The common properties of primary and replicas: each must be able to replace another."""
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
            "monitoring_interval": MONITORING_SECONDS,
            "monitoring_role_arn": self._monitoring.role_arn,
        }
