"""The network: isolated subnets, and the endpoints that functions in them need."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.database import NetworkSettings, find_block

CACHE_PORT: Final = 6379
POSTGRES_PORT: Final = 5432
_HTTPS: Final = 443


class Network(Construct):
    """A VPC without internet, NAT or public addresses, for the database and its clients.

    It creates one endpoint: the gateway to S3, free of charge, because the consumer reads archive
    objects and writes decisions. Little else is needed from inside. IAM tokens are signed locally,
    Lambda itself polls the queues and transports logs, metrics and traces, and the write function
    is outside of the network. `interface` adds an endpoint for another service.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: NetworkSettings,
        archive_arn: str,
        attachments_arn: str | None,
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, construct_id)
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(settings.cidr),
            nat_gateways=0,
            # CDK would divide the network by the number of zones: another number would move all
            # subnets, with addresses that overlap until the old ones are deleted.
            subnet_configuration=[],
            # The default group has no members; removing its rules would require a function.
            restrict_default_security_group=False,
        )
        subnets = {zone: self._add_subnet(zone, settings.cidr) for zone in settings.all_zones}
        #: The subnets of functions.
        self.used_subnets: list[ec2.ISubnet] = [subnets[zone] for zone in settings.used_zones]
        #: The subnets of the database's servers: a server stays in the zone that it is in.
        self.all_subnets: list[ec2.ISubnet] = list(subnets.values())
        self._log_refused_traffic(log_retention)
        self._s3 = self._add_s3_endpoint(archive_arn, attachments_arn)
        #: The security group of functions that use the database.
        self.clients = self._add_group("Clients", "Functions that use the database")
        #: The security group of the database's servers.
        self.servers = self._add_group("Servers", "The database")
        #: The security group of functions that use the read cache, in addition to the other. It is
        #: here, and always, because stacks of different order use it.
        self.cache_clients = self._add_group("CacheClients", "Functions that use the read cache")
        self.cache_clients.add_egress_rule(
            ec2.Peer.ipv4(self.vpc.vpc_cidr_block), ec2.Port.tcp(CACHE_PORT), "The read cache"
        )
        postgres = ec2.Port.tcp(POSTGRES_PORT)
        self.servers.add_ingress_rule(self.clients, postgres, "Functions")
        self.clients.add_egress_rule(self.servers, postgres, "The database")
        # Only AWS knows the name of the list of S3's addresses; the endpoint's route is the only
        # one.
        self.clients.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(_HTTPS), "Endpoints")

    def _add_group(self, construct_id: str, description: str) -> ec2.SecurityGroup:
        """A security group without rules."""
        return ec2.SecurityGroup(
            self,
            construct_id,
            vpc=self.vpc,
            description=description,
            allow_all_outbound=False,
        )

    def _add_subnet(self, zone: str, cidr: str) -> ec2.PrivateSubnet:
        """Add the zone's subnet, with id and addresses that depend on the zone alone."""
        blocks = list(IPv4Network(cidr).subnets(prefixlen_diff=4))
        numbered = zone.isdecimal()
        subnet = ec2.PrivateSubnet(
            self,
            f"Subnet-{zone}",
            vpc_id=self.vpc.vpc_id,
            cidr_block=str(blocks[find_block(zone)]),
            # Resolved at the deployment: a synthesis must not call AWS.
            availability_zone=cdk.Fn.select(int(zone) - 1, cdk.Fn.get_azs()) if numbered else zone,
        )
        if not numbered:
            raw = subnet.node.default_child
            assert isinstance(raw, ec2.CfnSubnet)  # noqa: S101 - what PrivateSubnet is made of
            raw.availability_zone = None
            raw.availability_zone_id = zone
        return subnet

    def add_interface(
        self,
        construct_id: str,
        service: ec2.InterfaceVpcEndpointAwsService,
        *,
        actions: Sequence[str],
        on: str,
    ) -> None:
        """Add an address inside the network for another service of AWS.

        The endpoint allows only the actions, on resources that match the ARN pattern: without a
        policy it would give access to any account.

        It costs by the hour and zone ($0.01 in us-east-1), so it is in one zone, which the others
        reach too; each caller states its reason.
        """
        group = self._add_group(f"{construct_id}Group", f"Endpoint {construct_id}")
        group.add_ingress_rule(self.clients, ec2.Port.tcp(_HTTPS), "Functions")
        endpoint = self.vpc.add_interface_endpoint(
            construct_id,
            service=service,
            open=False,
            security_groups=[group],
            subnets=ec2.SubnetSelection(subnets=self.used_subnets[:1]),
        )
        endpoint.add_to_policy(
            iam.PolicyStatement(
                principals=[iam.AnyPrincipal()], actions=list(actions), resources=[on]
            )
        )

    def allow_reading(self, arn_pattern: str) -> None:
        """Let objects of another bucket pass the gateway to S3."""
        self._s3.add_to_policy(
            iam.PolicyStatement(
                principals=[iam.AnyPrincipal()], actions=["s3:GetObject"], resources=[arn_pattern]
            )
        )

    def _add_s3_endpoint(
        self, archive_arn: str, attachments_arn: str | None
    ) -> ec2.GatewayVpcEndpoint:
        """Add the gateway to S3; without it, the consumer would hang on its first object."""
        endpoint = self.vpc.add_gateway_endpoint(
            "S3",
            service=ec2.GatewayVpcEndpointAwsService.S3,
            subnets=[ec2.SubnetSelection(subnets=self.all_subnets)],
        )
        endpoint.add_to_policy(
            iam.PolicyStatement(
                sid="TheArchiveOnly",
                principals=[iam.AnyPrincipal()],
                actions=[
                    "s3:GetBucketNotification",
                    "s3:GetObject",
                    "s3:ListBucket",
                    "s3:PutObject",
                ],
                resources=[archive_arn, f"{archive_arn}/*"],
            )
        )
        if attachments_arn is not None:
            endpoint.add_to_policy(
                iam.PolicyStatement(
                    sid="NamesOfAttachments",  # for the sweep, and `forebay verify` on the runner
                    principals=[iam.AnyPrincipal()],
                    actions=["s3:ListBucket"],
                    resources=[attachments_arn],
                )
            )
        return endpoint

    def _log_refused_traffic(self, retention: logs.RetentionDays) -> None:
        """Log refused packets only: they indicate a mistake or an attack, and are free."""
        group = logs.LogGroup(
            self, "FlowLog", retention=retention, removal_policy=cdk.RemovalPolicy.DESTROY
        )
        self.vpc.add_flow_log(
            "Refused",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(group),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )
