"""The network: subnets that lead nowhere, and the one way out that something needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

POSTGRES_PORT: Final = 5432
_HTTPS: Final = 443


class Network(Construct):
    """A VPC without internet, NAT or public address, for the database and who talks to it.

    It brings one endpoint: the gateway to S3, free of charge, because the consumer reads archive
    objects and writes rejections. Little else is asked for from inside: IAM tokens are signed on
    the spot, Lambda itself polls the queues and carries logs, metrics and traces, and the write
    function is no part of the network. Who needs more adds its own `interface`.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        cidr: str,
        availability_zones: int,
        archive_arn: str,
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, construct_id)
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(cidr),
            max_azs=availability_zones,
            nat_gateways=0,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="isolated", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED
                )
            ],
            # Nothing is a member of the default group; taking its rules away takes a function.
            restrict_default_security_group=False,
        )
        self._log_what_is_refused(log_retention)
        self._s3(archive_arn)
        #: What functions are members of that talk to the database.
        self.clients = ec2.SecurityGroup(
            self,
            "Clients",
            vpc=self.vpc,
            description="Functions that use the database",
            allow_all_outbound=False,
        )
        #: What the database's servers are members of.
        self.servers = ec2.SecurityGroup(
            self,
            "Servers",
            vpc=self.vpc,
            description="The database",
            allow_all_outbound=False,
        )
        postgres = ec2.Port.tcp(POSTGRES_PORT)
        self.servers.add_ingress_rule(self.clients, postgres, "Functions")
        self.clients.add_egress_rule(self.servers, postgres, "The database")
        # S3's addresses are a list whose name only AWS knows; no route but the endpoint's is there.
        self.clients.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(_HTTPS), "Endpoints")

    def subnet_ids(self) -> list[str]:
        """The subnets, one in each zone."""
        return self.vpc.select_subnets(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED).subnet_ids

    def interface(
        self,
        construct_id: str,
        service: ec2.InterfaceVpcEndpointAwsService,
        *,
        actions: Sequence[str],
        on: str,
    ) -> None:
        """An address inside of the network for one more of AWS's services.

        It lets nothing through but the actions, on what the ARN pattern names: without a policy it
        would be a way to anybody's account.

        It costs by the hour and zone ($0.01 in us-east-1), so it is in one zone, which the others
        reach too; whoever asks for it says why.
        """
        group = ec2.SecurityGroup(
            self,
            f"{construct_id}Group",
            vpc=self.vpc,
            description=f"Endpoint {construct_id}",
            allow_all_outbound=False,
        )
        group.add_ingress_rule(self.clients, ec2.Port.tcp(_HTTPS), "Functions")
        endpoint = self.vpc.add_interface_endpoint(
            construct_id,
            service=service,
            open=False,
            security_groups=[group],
            subnets=ec2.SubnetSelection(subnets=[self.vpc.isolated_subnets[0]]),
        )
        endpoint.add_to_policy(
            iam.PolicyStatement(
                principals=[iam.AnyPrincipal()], actions=list(actions), resources=[on]
            )
        )

    def _s3(self, archive_arn: str) -> None:
        """Without it, a consumer in the network would hang on its first object until its end."""
        endpoint = self.vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        endpoint.add_to_policy(
            iam.PolicyStatement(
                sid="TheArchiveOnly",
                principals=[iam.AnyPrincipal()],
                actions=["s3:GetObject", "s3:ListBucket", "s3:PutObject"],
                resources=[archive_arn, f"{archive_arn}/*"],
            )
        )

    def _log_what_is_refused(self, retention: logs.RetentionDays) -> None:
        """Refused packets only: here they are a sign of a mistake or worse, and cost nothing."""
        group = logs.LogGroup(
            self, "FlowLog", retention=retention, removal_policy=cdk.RemovalPolicy.DESTROY
        )
        self.vpc.add_flow_log(
            "Refused",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(group),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )
