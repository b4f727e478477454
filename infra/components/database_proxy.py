"""RDS Proxy, through which functions share connections to the database on AWS."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_rds as rds
from constructs import Construct

from infra.components.aurora_cluster import AuroraCluster
from infra.components.database_servers import OWNER, READER, WRITER, Servers, build_login_arn
from infra.components.network import POSTGRES_PORT, Network
from infra.components.rds_instances import RdsInstances


class Proxy(Construct):
    """RDS Proxy in front of the primary: functions share connections.

    It logs in as the client's user, with a token of its own, so it has no secret either.
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
        direct = target.servers
        role = self._add_role(direct)
        proxy = rds.CfnDBProxy(
            self,
            "Proxy",
            db_proxy_name=name,
            engine_family="POSTGRESQL",
            default_auth_scheme="IAM_AUTH",
            require_tls=True,
            role_arn=role.role_arn,
            # CloudFormation can't change them, and the proxy's name prevents its replacement: so
            # not all zones, but two, as RDS Proxy requires. Further zones don't change them.
            vpc_subnet_ids=[subnet.subnet_id for subnet in network.used_subnets[:2]],
            vpc_security_group_ids=[network.servers.security_group_id],
        )
        group = rds.CfnDBProxyTargetGroup(
            self,
            "Target",
            db_proxy_name=proxy.ref,
            target_group_name="default",
            **_select_target(target),
        )
        if isinstance(target, AuroraCluster):
            group.node.add_dependency(*target.node.find_all())
        # Connections from the proxy to the servers, which are in the same group.
        network.servers.connections.allow_internally(
            ec2.Port.tcp(POSTGRES_PORT), "RDS Proxy to the servers behind it"
        )
        is_primary_only = direct.replicas == (direct.primary,)
        # arn:aws:rds:region:account:db-proxy:prx-…
        proxy_id = cdk.Fn.select(6, cdk.Fn.split(":", proxy.attr_db_proxy_arn))
        self.servers = Servers(
            primary=proxy.attr_endpoint,
            replicas=(proxy.attr_endpoint,) if is_primary_only else direct.replicas,
            primary_ids=(proxy_id,),
            replica_ids=(proxy_id,) if is_primary_only else direct.replica_ids,
        )

    def _add_role(self, direct: Servers) -> iam.Role:
        """The role by which the proxy logs in to the primary, as each of the users."""
        logins = iam.PolicyStatement(
            actions=["rds-db:connect"],
            resources=[
                build_login_arn(self, resource_id, user)
                for resource_id in direct.primary_ids
                for user in (OWNER, WRITER, READER)
            ],
        )
        return iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("rds.amazonaws.com"),
            inline_policies={"LogIn": iam.PolicyDocument(statements=[logins])},
        )


def _select_target(target: RdsInstances | AuroraCluster) -> dict[str, Any]:
    if isinstance(target, AuroraCluster):
        return {"db_cluster_identifiers": [target.cluster.ref]}
    return {"db_instance_identifiers": [target.primary.ref]}
