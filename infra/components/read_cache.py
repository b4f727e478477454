"""The read cache on AWS: ElastiCache for Valkey in the database's network."""

from __future__ import annotations

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticache as elasticache
from constructs import Construct

from infra.components.findings import accept
from infra.components.network import CACHE_PORT
from infra.read_cache import ReadCacheSettings

_ENGINE: Final = "valkey"
_VERSION: Final = "8.1"
_FAMILY: Final = "valkey8"
#: The commands of forebay/read_cache, and those of its scripts.
_ACCESS: Final = "on ~* -@all +mget +get +set +unlink +eval +info"


class ReadCache(Construct):
    """A node with its replicas, which functions log in to by IAM tokens."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        vpc: ec2.IVpc,
        subnets: ec2.SubnetSelection,
        clients: ec2.ISecurityGroup,
        settings: ReadCacheSettings,
    ) -> None:
        super().__init__(scope, construct_id)
        self._name = name
        self._settings = settings
        #: The security group of functions that use the cache, in addition to another.
        self.clients = clients
        servers = ec2.SecurityGroup(
            self, "Servers", vpc=vpc, description="The read cache", allow_all_outbound=False
        )
        servers.add_ingress_rule(
            ec2.Peer.security_group_id(clients.security_group_id),
            ec2.Port.tcp(CACHE_PORT),
            "Functions",
        )
        self._subnets = elasticache.CfnSubnetGroup(
            self,
            "Subnets",
            description="Isolated subnets",
            subnet_ids=[subnet.subnet_id for subnet in subnets.subnets or ()],
        )
        user = elasticache.CfnUser(
            self,
            "User",
            engine=_ENGINE,
            # IAM requires that both are equal.
            user_id=name,
            user_name=name,
            authentication_mode={"Type": "iam"},
            access_string=_ACCESS,
        )
        group = elasticache.CfnUserGroup(
            self, "Users", engine=_ENGINE, user_group_id=name, user_ids=[user.ref]
        )
        self._servers = self._add_servers(servers, group)
        #: What `elasticache:Connect` is granted on.
        self.arns = tuple(
            cdk.Stack.of(self).format_arn(
                service="elasticache",
                resource=kind,
                resource_name=name,
                arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
            )
            for kind in ("replicationgroup", "user")
        )

    @property
    def url(self) -> str:
        """The primary node's address, as the functions get it."""
        host, port = (
            self._servers.attr_primary_end_point_address,
            self._servers.attr_primary_end_point_port,
        )
        return f"valkeys://{self._name}@{host}:{port}/?cache={self._name}&region={cdk.Aws.REGION}"

    def _add_servers(
        self, security_group: ec2.SecurityGroup, users: elasticache.CfnUserGroup
    ) -> elasticache.CfnReplicationGroup:
        settings = self._settings
        has_replicas = settings.replicas > 0
        parameters = elasticache.CfnParameterGroup(
            self,
            "Parameters",
            cache_parameter_group_family=_FAMILY,
            description=f"Forebay: {self._name}",
            # The epoch has no lifetime, so it is never evicted; every other record has one.
            properties={"maxmemory-policy": "volatile-lru"},
        )
        servers = elasticache.CfnReplicationGroup(
            self,
            "Nodes",
            replication_group_id=self._name,
            replication_group_description="Answers of the read function",
            engine=_ENGINE,
            engine_version=_VERSION,
            cache_node_type=f"cache.{settings.node_type}",
            num_cache_clusters=1 + settings.replicas,
            automatic_failover_enabled=has_replicas,
            multi_az_enabled=has_replicas,
            cache_parameter_group_name=parameters.ref,
            cache_subnet_group_name=self._subnets.ref,
            security_group_ids=[security_group.security_group_id],
            port=CACHE_PORT,
            transit_encryption_enabled=True,
            transit_encryption_mode="required",
            at_rest_encryption_enabled=True,
            user_group_ids=[users.ref],
            auto_minor_version_upgrade=True,
            # Without its records the cache is empty, not wrong.
            snapshot_retention_limit=0,
        )
        reasons = {
            "AwsSolutions-AEC5": "The subnets are isolated, and only one security group has "
            "access; another port would not add protection.",
            "AwsSolutions-AEC6": "Its users log in with IAM tokens, which exclude a password.",
        }
        if not has_replicas:
            reasons["AwsSolutions-AEC4"] = (
                "The settings of the environment have no replica: while the only node is away, "
                "reads are answered by the database."
            )
        accept(servers, reasons)
        return servers
