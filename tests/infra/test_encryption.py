"""Everything that an environment stores has the customer's key, if the settings name one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import aws_cdk as cdk
import pytest
from pydantic import ValidationError

from infra.app import build_app
from infra.changes.__main__ import read_assembly
from infra.changes.templates import Stack, get_property
from infra.settings import FunctionName, Settings
from tests.infra.templates import LOCAL_CONTEXT, Synthesised, readable
from tests.infra.variants import ACCOUNT, settings_of

_KEY: Final = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/0f0f0f0f-0000-4000-8000-000000000000"
_FORMER: Final = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/0a0a0a0a-0000-4000-8000-000000000000"
_COPIES: Final = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/mrk-0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c"
_PROD: Final = {
    "operations.runner": True,
    "operations.emails": ["a@example.com"],
    "operations.monthly_budget_dollars": 100,
    "read_cache": {"node_type": "t4g.small"},
    "archive.copy_to": {"region": "eu-west-1", "bucket": "forebay-copy", "key": _COPIES},
}
_DEV: Final = {
    "database.serverless": {"min_units": 1, "max_units": 2},
    "database.insights_days": 7,
    "database.replicas": 1,
    "database.in_global": {"identifier": "forebay", "role": "primary"},
    "database.proxy": True,
    "idempotency": {},
    "edge": {"requests_per_address": 30_000, "requests_per_signature": 300_000},
}

Properties = Mapping[str, Any]


def _find_bucket_key(properties: Properties) -> Any:
    (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["BucketKeyEnabled"]
    return rule["ServerSideEncryptionByDefault"].get("KMSMasterKeyID")


def _find_stream_key(properties: Properties) -> Any:
    configuration = properties["DeliveryStreamEncryptionConfigurationInput"]
    assert configuration["KeyType"] == "CUSTOMER_MANAGED_CMK"
    return configuration["KeyARN"]


def _find_table_key(properties: Properties) -> Any:
    assert properties["SSESpecification"]["SSEType"] == "KMS"
    return properties["SSESpecification"]["KMSMasterKeyId"]


def _find_queue_key(properties: Properties) -> Any:
    assert "SqsManagedSseEnabled" not in properties
    return properties["KmsMasterKeyId"]


#: The types that can have a key, and where they have it.
_KEYED: Final[Mapping[str, Callable[[Properties], Any]]] = {
    "AWS::DynamoDB::Table": _find_table_key,
    "AWS::ElastiCache::ReplicationGroup": lambda properties: properties["KmsKeyId"],
    "AWS::KinesisFirehose::DeliveryStream": _find_stream_key,
    "AWS::Lambda::Function": lambda properties: properties["KmsKeyArn"],
    "AWS::Logs::LogGroup": lambda properties: properties["KmsKeyId"],
    "AWS::RDS::DBCluster": lambda properties: properties["KmsKeyId"],
    "AWS::RDS::DBInstance": lambda properties: properties["KmsKeyId"],
    "AWS::S3::Bucket": _find_bucket_key,
    "AWS::SNS::Topic": lambda properties: properties["KmsMasterKeyId"],
    "AWS::SQS::Queue": _find_queue_key,
    "AWS::SecretsManager::Secret": lambda properties: properties["KmsKeyId"],
}

#: The types that store data, and can't have a key.
_WITHOUT_KEY: Final = frozenset(
    {
        # The stage cache has a key of AWS.
        "AWS::ApiGateway::Stage",
        # No artifacts and no cache.
        "AWS::CodeBuild::Project",
        # CDK's resource has no such property (November 2026); AWS encrypts accounts itself.
        "AWS::Cognito::UserPool",
    }
)

#: The types that store no data, or only configuration.
_STORE_NOTHING: Final = frozenset(
    {
        "AWS::ApiGateway::Account",
        "AWS::ApiGateway::ApiKey",
        "AWS::ApiGateway::Authorizer",
        "AWS::ApiGateway::Deployment",
        "AWS::ApiGateway::GatewayResponse",
        "AWS::ApiGateway::Method",
        "AWS::ApiGateway::Resource",
        "AWS::ApiGateway::RestApi",
        "AWS::ApiGateway::UsagePlan",
        "AWS::ApiGateway::UsagePlanKey",
        "AWS::Budgets::Budget",
        "AWS::CloudFront::CachePolicy",
        "AWS::CloudFront::Distribution",
        "AWS::CloudFront::Function",
        "AWS::CloudFront::KeyValueStore",
        "AWS::CloudFront::ResponseHeadersPolicy",
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::Dashboard",
        "AWS::CodeDeploy::Application",
        "AWS::CodeDeploy::DeploymentGroup",
        "AWS::Cognito::UserPoolResourceServer",
        "AWS::EC2::FlowLog",
        "AWS::EC2::RouteTable",
        "AWS::EC2::SecurityGroup",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::EC2::Subnet",
        "AWS::EC2::SubnetRouteTableAssociation",
        "AWS::EC2::VPC",
        "AWS::EC2::VPCEndpoint",
        "AWS::ElastiCache::ParameterGroup",
        "AWS::ElastiCache::SubnetGroup",
        "AWS::ElastiCache::User",
        "AWS::ElastiCache::UserGroup",
        "AWS::Events::Rule",
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::Policy",
        "AWS::IAM::Role",
        "AWS::KMS::Alias",
        "AWS::KMS::Key",
        "AWS::Lambda::Alias",
        "AWS::Lambda::EventSourceMapping",
        "AWS::Lambda::Permission",
        "AWS::Lambda::Version",
        "AWS::Logs::LogStream",
        "AWS::RDS::DBClusterParameterGroup",
        "AWS::RDS::DBParameterGroup",
        "AWS::RDS::DBProxy",
        "AWS::RDS::DBProxyTargetGroup",
        "AWS::RDS::DBSubnetGroup",
        "AWS::RDS::GlobalCluster",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Subscription",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::QueuePolicy",
        "AWS::WAFv2::LoggingConfiguration",
        "AWS::WAFv2::WebACL",
        "Custom::Trigger",
    }
)

App = Mapping[str, Stack]


def synthesise(settings: Settings, flags: Mapping[str, Any], package: Path) -> App:
    app = cdk.App(context=dict(flags))
    build_app(settings, app=app, packages=lambda _: package)
    return read_assembly(app)


@pytest.fixture(scope="module", params=["prod", "dev"])
def own(request: pytest.FixtureRequest, flags: Mapping[str, Any], package: Path) -> App:
    """An environment with an own key: RDS with all parts, or Aurora."""
    changes = {"prod": _PROD, "dev": _DEV}[request.param]
    settings = settings_of(request.param, {**changes, "encryption.key": "own"})
    return synthesise(settings, flags, package)


@pytest.fixture(scope="module")
def copied(flags: Mapping[str, Any], package: Path) -> Synthesised:
    """The development environment with an existing key, and a copy of its archive."""
    copy = {"region": "eu-west-1", "bucket": "forebay-copy", "key": _COPIES}
    changes = {"encryption.key": _KEY, "archive.copy_to": copy}
    return Synthesised.of(settings_of("dev", changes), flags, package)


@pytest.fixture(scope="module")
def given(flags: Mapping[str, Any], package: Path) -> Synthesised:
    """The development environment with an existing key, after another one."""
    changes = {"encryption.key": _KEY, "encryption.former_keys": [_FORMER], "idempotency": {}}
    return Synthesised.of(settings_of("dev", changes), flags, package)


def list_resources(app: App) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Stack, logical id and resource."""
    for stack in app.values():
        for name, resource in stack.resources.items():
            yield stack.name, name, resource


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _has_key_of_source(resource: Mapping[str, Any]) -> bool:
    return resource["Type"] == "AWS::RDS::DBInstance" and (
        get_property(resource, "SourceDBInstanceIdentifier") is not None
        or get_property(resource, "DBClusterIdentifier") is not None
    )


def _stores_nothing(resource: Mapping[str, Any]) -> bool:
    """CDK's own functions have no variables, which are all that the key would encrypt."""
    return (
        resource["Type"] == "AWS::Lambda::Function"
        and get_property(resource, "Environment") is None
    )


def test_each_type_is_known_to_have_a_key_or_none(own: App) -> None:
    types = {resource["Type"] for _, _, resource in list_resources(own)}

    assert types - _KEYED.keys() - _WITHOUT_KEY - _STORE_NOTHING == set()


def test_everything_that_is_stored_has_the_key(own: App) -> None:
    """The edge's stack is in us-east-1 in any case, and a key is of one region."""
    checked = set()
    for stack, name, resource in list_resources(own):
        if resource["Type"] not in _KEYED or stack.endswith("-edge"):
            continue
        if _has_key_of_source(resource) or _stores_nothing(resource):
            continue
        key = readable(_KEYED[resource["Type"]](resource["Properties"]))
        assert "OwnKey" in key, (stack, name)
        checked.add(resource["Type"])

    kinds = {"AWS::RDS::DBCluster", "AWS::RDS::DBInstance", "AWS::ElastiCache::ReplicationGroup"}
    assert checked >= _KEYED.keys() - kinds
    assert checked & kinds


def test_performance_insights_have_the_key_too(own: App) -> None:
    instances = [
        resource
        for _, _, resource in list_resources(own)
        if resource["Type"] == "AWS::RDS::DBInstance"
    ]

    assert instances
    for instance in instances:
        assert "OwnKey" in readable(get_property(instance, "PerformanceInsightsKMSKeyId"))


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_without_the_setting_no_resource_has_a_customer_managed_key(
    request: pytest.FixtureRequest, environment: str
) -> None:
    synthesised: Synthesised = request.getfixturevalue(environment)
    text = json.dumps([synthesised.data, synthesised.service, synthesised.database])

    assert "AWS::KMS::" not in text
    assert ":kms:" not in text
    assert '"kms:' not in text
    for name in ("KmsKeyId", "KmsKeyArn", "KmsMasterKeyId", "KMSMasterKeyID", "KeyARN"):
        assert f'"{name}"' not in text


def test_the_own_key_is_rotated_and_survives_its_stack(own: App) -> None:
    (key,) = (
        resource for _, _, resource in list_resources(own) if resource["Type"] == "AWS::KMS::Key"
    )

    assert get_property(key, "EnableKeyRotation") is True
    assert key["DeletionPolicy"] == "RetainExceptOnCreate"
    assert key["UpdateReplacePolicy"] == "Retain"


def test_services_may_use_the_own_key_where_no_role_does(own: App) -> None:
    (key,) = (
        resource for _, _, resource in list_resources(own) if resource["Type"] == "AWS::KMS::Key"
    )
    statements = {
        readable(statement["Principal"].get("Service", "account")): statement
        for statement in get_property(key, "KeyPolicy")["Statement"]
    }

    assert set(statements) == {
        "account",
        "logs.us-east-1.amazonaws.com",
        "s3.amazonaws.com",
        "cloudwatch.amazonaws.com",
    }
    context = statements["logs.us-east-1.amazonaws.com"]["Condition"]["ArnLike"]
    assert ":log-group:*" in readable(context["kms:EncryptionContext:aws:logs:arn"])
    for service in ("s3.amazonaws.com", "cloudwatch.amazonaws.com"):
        actions = statements[service]["Action"]
        assert "kms:Decrypt" in actions
        assert any(action.startswith("kms:GenerateDataKey") for action in actions)
    condition = statements["cloudwatch.amazonaws.com"]["Condition"]
    assert "alarm:forebay-" in readable(condition["ArnLike"]["aws:SourceArn"])


def test_functions_read_with_each_key_and_write_with_the_newest(given: Synthesised) -> None:
    for name in get_args(FunctionName):
        granted = given.granted(name)
        assert {("kms:Decrypt", _KEY), ("kms:Decrypt", _FORMER)} <= granted, name
        assert ("kms:GenerateDataKey", _FORMER) not in granted
    writers: tuple[FunctionName, ...] = ("write", "imports", "firehose_consumer", "sweep")
    for name in writers:
        granted = given.granted(name)
        assert ("kms:GenerateDataKey", _KEY) in granted, name
    for action in ("kms:DescribeKey", "kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo"):
        assert (action, _KEY) in given.granted("write")
        assert (action, _KEY) not in given.granted("imports")
    assert ("kms:GenerateDataKey", _KEY) not in given.granted("read")


def test_operators_and_firehose_read_with_each_key_and_write_with_the_newest(
    given: Synthesised,
) -> None:
    (operator,) = (
        policy["PolicyDocument"]
        for policy in given.properties("service", "AWS::IAM::ManagedPolicy")
        if policy["ManagedPolicyName"].endswith("-operator")
    )
    (firehose,) = (
        policy["PolicyDocument"]
        for role in given.properties("data", "AWS::IAM::Role")
        for policy in role["Policies"]
    )

    for document in (operator, firehose):
        allowed = {
            statement["Action"]: set(_listed(statement["Resource"]))
            for statement in document["Statement"]
            if "kms:" in json.dumps(statement)
        }
        assert allowed == {"kms:Decrypt": {_KEY, _FORMER}, "kms:GenerateDataKey": {_KEY}}


def test_an_existing_key_is_used_and_none_is_created(given: Synthesised) -> None:
    assert given.resources("data", "AWS::KMS::Key") == []
    (bucket,) = given.properties("data", "AWS::S3::Bucket")
    assert _find_bucket_key(bucket) == _KEY
    for queue in given.properties("data", "AWS::SQS::Queue"):
        assert _find_queue_key(queue) == _KEY


def test_a_copy_of_the_archive_gets_the_key_of_its_region(copied: Synthesised) -> None:
    bucket = copied.only("data", "AWS::S3::Bucket")
    (document,) = (
        policy["PolicyDocument"]
        for role in copied.properties("data", "AWS::IAM::Role")
        for policy in role["Policies"]
        if policy["PolicyName"] == "Copy"
    )

    (rule,) = bucket["ReplicationConfiguration"]["Rules"]
    allowed = {json.dumps(statement["Resource"]) for statement in document["Statement"]}
    assert {json.dumps(_KEY), json.dumps(_COPIES)} <= allowed
    assert rule["SourceSelectionCriteria"] == {"SseKmsEncryptedObjects": {"Status": "Enabled"}}
    destination = rule["Destination"]
    assert destination["EncryptionConfiguration"] == {"ReplicaKmsKeyID": _COPIES}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encryption.key": "alias/mine"}, "encryption.key"),
        ({"encryption.key": _COPIES}, "must be in the environment's region"),
        ({"encryption.key": "own", "encryption.former_keys": ["own"]}, "the key in use"),
        (
            {
                "encryption.key": "own",
                "archive.copy_to": {"region": "eu-west-1", "bucket": "forebay-copy"},
            },
            "archive.copy_to.key is required",
        ),
        (
            {
                "archive.copy_to": {"region": "eu-west-1", "bucket": "forebay-copy", "key": _KEY},
            },
            "key must be in the region of the copy",
        ),
    ],
)
def test_keys_that_can_t_be_used_are_refused(changes: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        settings_of("dev", changes)


def test_the_emulator_has_no_key() -> None:
    values = Settings.load("local", {**LOCAL_CONTEXT}).model_dump(exclude_unset=True)

    with pytest.raises(ValidationError, match=r"encryption\.key must be 'managed'"):
        Settings.model_validate({**values, "encryption": {"key": "own"}})
