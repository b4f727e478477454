"""The database on AWS: access to it, how users log in, and what survives a deletion."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template

from infra.components.database_servers import CERTIFICATES, OWNER, READER, WRITER
from infra.components.encryption import Keys
from infra.database import ExternalDatabase
from infra.stacks.base import EnvironmentStack
from infra.stacks.database import DatabaseStack, Reach, build_external_reach
from tests.infra.templates import readable
from tests.infra.variants import properties, settings_of

ARCHIVE = "arn:aws:s3:::archive"
AURORA = {
    "database.serverless": None,
    "database.instance_class": "r8g.large",
    "database.replicas": 1,
}
GLOBAL = {
    **AURORA,
    "database.in_global": {"identifier": "forebay", "role": "primary"},
}
#: Readable address and permissions of each user.
Logins = Mapping[str, Mapping[str, Any]]
Made = Callable[..., tuple[Template, Logins]]


@pytest.fixture
def made(flags: Mapping[str, Any]) -> Made:
    """A function that makes an environment's database, with changed settings, and its logins."""

    def make(name: str, changes: Mapping[str, Any]) -> tuple[Template, Logins]:
        settings = settings_of(name, changes)
        assert not isinstance(settings.database, ExternalDatabase)
        stack = DatabaseStack(
            cdk.App(context=dict(flags)),
            settings=settings,
            database=settings.database,
            archive_arn=ARCHIVE,
            keys=Keys(),
        )
        return Template.from_stack(stack), _logins(stack, stack.reach)

    return make


def _logins(stack: cdk.Stack, reach: Reach) -> Logins:
    return {
        name: {
            "url": readable(stack.resolve(getattr(reach, name).url)),
            "arns": [readable(stack.resolve(arn)) for arn in getattr(reach, name).arns],
        }
        for name in ("owner", "writer", "reader", "replicas")
    }


EVERY_KIND = [
    pytest.param("dev", {}, id="aurora-serverless"),
    pytest.param("dev", AURORA, id="aurora-provisioned"),
    pytest.param("staging", {}, id="rds"),
    pytest.param("prod", {}, id="rds-multi-az"),
    pytest.param("prod", {"database.proxy": True}, id="rds-proxy"),
]


@pytest.mark.parametrize(("name", "changes"), EVERY_KIND)
def test_the_network_leads_nowhere(made: Made, name: str, changes: Mapping[str, Any]) -> None:
    template, _ = made(name, changes)

    for kind in ("NatGateway", "InternetGateway", "EIP", "EgressOnlyInternetGateway"):
        template.resource_count_is(f"AWS::EC2::{kind}", 0)
    template.resource_count_is("AWS::EC2::Route", 0)


@pytest.mark.parametrize(("name", "changes"), EVERY_KIND)
def test_only_functions_reach_the_database(
    made: Made, name: str, changes: Mapping[str, Any]
) -> None:
    template, _ = made(name, changes)

    rules = properties(template, "AWS::EC2::SecurityGroupIngress")
    assert rules
    for rule in rules:
        port = 443 if "Sqs" in readable(rule["GroupId"]) else 5432
        assert (rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) == (port, port, "tcp")
        assert "SourceSecurityGroupId" in rule
    for group in properties(template, "AWS::EC2::SecurityGroup"):
        assert "SecurityGroupIngress" not in group
    for server in properties(template, "AWS::RDS::DBInstance"):
        assert server["PubliclyAccessible"] is False


@pytest.mark.parametrize(("name", "changes"), EVERY_KIND)
def test_there_is_no_password_anywhere(made: Made, name: str, changes: Mapping[str, Any]) -> None:
    template, logins = made(name, changes)

    assert "AWS::SecretsManager" not in json.dumps(template.to_json())
    origins = [
        resource
        for kind in ("AWS::RDS::DBInstance", "AWS::RDS::DBCluster")
        for resource in properties(template, kind)
        if "MasterUsername" in resource
    ]
    (origin,) = origins
    assert origin["MasterUsername"] == OWNER
    assert origin["MasterUserAuthenticationType"] == "iam-db-auth"
    assert origin["EnableIAMDatabaseAuthentication"] is True
    assert not {"MasterUserPassword", "ManageMasterUserPassword"} & set(origin)
    for login in logins.values():
        assert "sslmode=verify-full" in login["url"]
        assert f"sslrootcert={CERTIFICATES}" in login["url"]
        assert ":5432/forebay" in login["url"]


@pytest.mark.parametrize(("name", "changes"), EVERY_KIND)
def test_each_may_log_in_as_one_user(made: Made, name: str, changes: Mapping[str, Any]) -> None:
    _, logins = made(name, changes)

    wanted = {"owner": OWNER, "writer": WRITER, "reader": READER, "replicas": READER}
    for role, user in wanted.items():
        assert logins[role]["url"].startswith(f"postgresql://{user}@")
        assert logins[role]["arns"]
        for arn in logins[role]["arns"]:
            assert ":rds-db:us-east-1:<AWS::AccountId>:dbuser:" in arn
            assert arn.endswith(f"/{user}")
            assert "*" not in arn


@pytest.mark.parametrize(("name", "changes"), EVERY_KIND)
def test_data_outlives_its_stack(made: Made, name: str, changes: Mapping[str, Any]) -> None:
    template, _ = made(name, changes)
    everything = template.to_json()["Resources"].values()

    keeping = [
        properties
        for properties in everything
        if "MasterUsername" in properties.get("Properties", {})
    ]
    (properties,) = keeping
    assert (properties["DeletionPolicy"], properties["UpdateReplacePolicy"]) == (
        "Snapshot",
        "Snapshot",
    )
    assert properties["Properties"]["StorageEncrypted"] is True
    assert properties["Properties"]["BackupRetentionPeriod"] >= 1
    assert properties["Properties"]["DeleteAutomatedBackups"] is False


def test_production_survives_a_zone_and_a_slip(made: Made) -> None:
    template, logins = made("prod", {})

    instances = properties(template, "AWS::RDS::DBInstance")
    (primary,) = (resource for resource in instances if "MasterUsername" in resource)
    replicas = [resource for resource in instances if "SourceDBInstanceIdentifier" in resource]
    assert primary["MultiAZ"] is True
    assert primary["BackupRetentionPeriod"] == 30
    assert primary["EnablePerformanceInsights"] is True
    assert primary["MaxAllocatedStorage"] > int(primary["AllocatedStorage"])
    assert primary["DeletionProtection"] is True
    assert len(replicas) == 2
    assert all(resource["EnableIAMDatabaseAuthentication"] for resource in replicas)
    template.resource_count_is("AWS::EC2::Subnet", 3)
    hosts = logins["replicas"]["url"].partition("@")[2].partition("/")[0]
    assert len(set(hosts.split(","))) == 2
    assert len(logins["replicas"]["arns"]) == 2


def test_the_server_s_parameters_are_set(made: Made) -> None:
    template, _ = made("prod", {"database.max_standby_delay_seconds": 45})

    (group,) = properties(template, "AWS::RDS::DBParameterGroup")
    assert group["Family"] == "postgres18"
    assert group["Parameters"] == {
        "rds.force_ssl": "1",
        "max_connections": "1000",
        "max_standby_streaming_delay": "45000",
        "idle_in_transaction_session_timeout": "60000",
        "log_min_duration_statement": "500",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "log_lock_waits": "1",
    }


def test_development_costs_little_while_it_sleeps(made: Made) -> None:
    template, _ = made("dev", {})

    (cluster,) = properties(template, "AWS::RDS::DBCluster")
    assert cluster["ServerlessV2ScalingConfiguration"] == {
        "MinCapacity": 0,
        "MaxCapacity": 2,
        "SecondsUntilAutoPause": 600,
    }
    (instance,) = properties(template, "AWS::RDS::DBInstance")
    assert instance["DBInstanceClass"] == "db.serverless"
    subnets = {
        endpoint["VpcEndpointType"]: len(endpoint.get("SubnetIds", []))
        for endpoint in properties(template, "AWS::EC2::VPCEndpoint")
    }
    assert subnets == {"Gateway": 0, "Interface": 1}  # the second is billed by zone


def test_an_aurora_cluster_has_its_readers(made: Made) -> None:
    template, logins = made("dev", {**AURORA, "database.replicas": 3})

    tiers = sorted(
        resource["PromotionTier"] for resource in properties(template, "AWS::RDS::DBInstance")
    )
    assert tiers == [0, 1, 2, 3]
    assert "ReadEndpoint" in logins["replicas"]["url"]
    assert "ReadEndpoint" not in logins["writer"]["url"]


def test_a_global_database_begins_with_its_primary(made: Made) -> None:
    template, _ = made("dev", GLOBAL)

    (group,) = properties(template, "AWS::RDS::GlobalCluster")
    assert group["GlobalClusterIdentifier"] == "forebay"
    assert "DatabaseCluster" in readable(group["SourceDBClusterIdentifier"])


def test_a_secondary_follows_and_is_only_read(made: Made) -> None:
    """Names, users and data come from the primary; the secondary has no writer."""
    changes = {**GLOBAL, "database.in_global": {"identifier": "forebay", "role": "secondary"}}
    template, logins = made("dev", changes)

    (cluster,) = properties(template, "AWS::RDS::DBCluster")
    assert cluster["GlobalClusterIdentifier"] == "forebay"
    assert not {"MasterUsername", "DatabaseName"} & set(cluster)
    assert cluster["KmsKeyId"] == "alias/aws/rds"
    template.resource_count_is("AWS::RDS::GlobalCluster", 0)
    template.resource_count_is("AWS::RDS::DBInstance", 1)
    assert logins["reader"]["url"] == logins["replicas"]["url"]


def test_a_failover_changes_the_role_of_a_region_and_not_its_cluster(made: Made) -> None:
    """A cluster keeps the user, database and key with which it was made.

    If one of them changes, CloudFormation replaces the cluster, and it refuses to replace a cluster
    that has a name (AWS::RDS::DBCluster: update requires replacement).
    """
    follows = {**GLOBAL, "database.in_global": {"identifier": "forebay", "role": "secondary"}}
    leads = {
        **GLOBAL,
        "database.in_global": {
            "identifier": "forebay",
            "role": "primary",
            "made_as": "secondary",
        },
    }
    before, _ = made("dev", follows)
    after, logins = made("dev", leads)

    assert properties(before, "AWS::RDS::DBCluster") == properties(after, "AWS::RDS::DBCluster")
    after.resource_count_is("AWS::RDS::GlobalCluster", 0)
    assert "ReadEndpoint" not in logins["writer"]["url"]
    back, logins = made(
        "dev",
        {
            **GLOBAL,
            "database.in_global": {
                "identifier": "forebay",
                "role": "secondary",
                "made_as": "primary",
            },
        },
    )
    first, _ = made("dev", GLOBAL)
    assert properties(first, "AWS::RDS::DBCluster") == properties(back, "AWS::RDS::DBCluster")
    back.resource_count_is("AWS::RDS::GlobalCluster", 1)
    assert "ReadEndpoint" in logins["writer"]["url"]


def test_replicas_can_be_taken_away_again(made: Made) -> None:
    """CloudFormation can't delete protected instances, so replicas are not protected."""
    template, _ = made("prod", {})

    for server in properties(template, "AWS::RDS::DBInstance"):
        assert server.get("DeletionProtection", False) is not (
            "SourceDBInstanceIdentifier" in server
        )


def test_a_proxy_has_no_secret(made: Made) -> None:
    template, logins = made("prod", {"database.proxy": True})

    (proxy,) = properties(template, "AWS::RDS::DBProxy")
    assert proxy["DefaultAuthScheme"] == "IAM_AUTH"
    assert proxy["RequireTLS"] is True
    assert "Auth" not in proxy
    for role in ("writer", "reader"):
        assert "<Proxy" in logins[role]["url"]
    # A migration holds session-level locks, so it needs a session of the server's own.
    assert "<Proxy" not in logins["owner"]["url"]
    assert "<Proxy" not in logins["replicas"]["url"]


def test_an_existing_database_is_reached_at_its_address(flags: Mapping[str, Any]) -> None:
    host = "db.abc.us-east-1.rds.amazonaws.com"
    settings = settings_of(
        "dev",
        {
            "database": {
                "kind": "external",
                "url": f"postgresql://writer@{host}/app",
                "replica_url": f"postgresql://reader@{host}/app",
                "owner_url": f"postgresql://owner@{host}/app",
                "read_timeout_seconds": 10,
                "resource_ids": ["db-ABC"],
                "network": {
                    "vpc_id": "vpc-0123",
                    "subnet_ids": ["subnet-1", "subnet-2"],
                    "security_group_id": "sg-0123",
                },
            }
        },
    )
    assert isinstance(settings.database, ExternalDatabase)
    stack = EnvironmentStack(cdk.App(context=dict(flags)), "service", settings=settings)
    reach = build_external_reach(stack, settings.database)

    logins = _logins(stack, reach)
    assert [arn.rpartition(":")[2] for login in logins.values() for arn in login["arns"]] == [
        "db-ABC/owner",
        "db-ABC/writer",
        "db-ABC/writer",
        "db-ABC/reader",
    ]
    assert reach.made_users == ()
    assert reach.security_group is not None
    assert reach.security_group.security_group_id == "sg-0123"
