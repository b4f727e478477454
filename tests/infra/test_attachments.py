"""The bucket of attachments: its access, how long objects are kept, and what reports it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import aws_cdk as cdk
import pytest

from forebay.attachments import Bucket
from infra.app import build_app
from infra.components.watched import Watched
from infra.settings import FunctionName
from lambdas.imports.settings import ImportSettings
from lambdas.sweep.settings import SweepSettings
from ops.context import _OUTPUTS, ATTACHMENTS
from tests.infra.templates import Synthesised, readable
from tests.infra.variants import settings_of

FUNCTIONS: tuple[FunctionName, ...] = get_args(FunctionName)
NAME = "forebay-prod-files-<AWS::AccountId>-us-east-1"
CHANGES = {
    "attachments.valid_minutes": 10,
    "api.cors_allow_origin": "https://app.example",
    "operations.runner": True,
}


@pytest.fixture(scope="module")
def attached(flags: Mapping[str, Any], package: Path) -> Synthesised:
    return Synthesised.of(settings_of("prod", CHANGES), flags, package)


@pytest.fixture(scope="module")
def bucket(attached: Synthesised) -> Mapping[str, Any]:
    (found,) = (
        properties
        for properties in attached.properties("data", "AWS::S3::Bucket")
        if "-files-" in readable(properties["BucketName"])
    )
    return found


def test_the_bucket_is_private_encrypted_and_outlives_its_stack(
    attached: Synthesised, bucket: Mapping[str, Any]
) -> None:
    assert readable(bucket["BucketName"]) == NAME
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    (resource,) = (
        resource
        for resource in attached.resources("data", "AWS::S3::Bucket")
        if resource["Properties"] == bucket
    )
    assert resource["DeletionPolicy"] in {"Retain", "RetainExceptOnCreate"}
    denied = [
        statement
        for policy in attached.properties("data", "AWS::S3::BucketPolicy")
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny" and "Attachments" in readable(policy["Bucket"])
    ]
    assert denied[0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_uploads_end_and_the_objects_of_rows_do_not(bucket: Mapping[str, Any]) -> None:
    rules = {rule["Prefix"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert rules["uploads/"]["ExpirationInDays"] == 14
    assert rules["uploads/"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert rules.keys() == {"uploads/", "objects/"}
    assert "ExpirationInDays" not in rules["objects/"]
    assert rules["objects/"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 90}


def test_pages_of_the_same_origin_as_for_the_api_may_use_it(bucket: Mapping[str, Any]) -> None:
    (rule,) = bucket["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == ["https://app.example"]
    assert rule["AllowedMethods"] == ["GET", "POST"]


def test_only_uploads_become_messages(attached: Synthesised, bucket: Mapping[str, Any]) -> None:
    (notification,) = bucket["NotificationConfiguration"]["QueueConfigurations"]
    rules = notification["Filter"]["S3Key"]["Rules"]
    assert rules == [{"Name": "prefix", "Value": "uploads/"}]
    dead = [
        queue["QueueName"]
        for queue in attached.properties("data", "AWS::SQS::Queue")
        if str(queue["QueueName"]).startswith("forebay-prod-upload-events")
    ]
    assert sorted(dead) == ["forebay-prod-upload-events", "forebay-prod-upload-events-dead"]
    watched = Watched.of(settings_of("prod", CHANGES))
    assert "forebay-prod-upload-events-dead" in watched.dead_letters
    assert len(Watched.of(settings_of("prod", {})).dead_letters) == len(watched.dead_letters) - 1


def test_each_function_has_the_permissions_for_its_signatures_and_claims(
    attached: Synthesised,
) -> None:
    arn = f"arn:<AWS::Partition>:s3:::{NAME}"
    expected: dict[str, set[tuple[str, str]]] = {
        "write": {
            ("s3:PutObject", f"{arn}/uploads/*"),
            ("s3:GetObject", f"{arn}/objects/*"),
            ("s3:ListBucket", arn),
        },
        "read": {("s3:GetObject", f"{arn}/objects/*")},
        "imports": {
            ("s3:GetObject", f"{arn}/uploads/*"),
            ("s3:DeleteObject", f"{arn}/uploads/*"),
            ("s3:GetObject", f"{arn}/objects/*"),
            ("s3:PutObject", f"{arn}/objects/*"),
            ("s3:ListBucket", arn),
        },
        "sweep": {("s3:ListBucket", arn)},
    }
    for name in FUNCTIONS:
        granted = {pair for pair in attached.granted(name) if "-files-" in pair[1]}
        assert granted == expected.get(name, set()), name


def test_a_claimed_object_is_created_and_never_replaced(attached: Synthesised) -> None:
    statements = [
        statement
        for policy in attached.properties("service", "AWS::IAM::Policy")
        for statement in policy["PolicyDocument"]["Statement"]
        if "/objects/*" in readable(statement["Resource"])
        and "s3:PutObject" in str(statement["Action"])
    ]
    assert [statement["Condition"] for statement in statements] == [
        {"Null": {"s3:if-none-match": "false"}}
    ]


def test_the_functions_get_the_variables_that_their_settings_read(attached: Synthesised) -> None:
    for name in ("write", "read", "status"):
        variables = attached.function(name)["Environment"]["Variables"]
        bucket = Bucket.from_env({**variables, "AWS_REGION": "us-east-1"})
        assert bucket is not None
        assert (readable(bucket.name), bucket.valid_seconds) == (NAME, 600)
    variables = attached.function("imports")["Environment"]["Variables"]
    settings = ImportSettings.from_env({key: readable(value) for key, value in variables.items()})
    assert settings.attachments_bucket == NAME
    assert settings.uploads_queue_arn
    assert settings.streams
    variables = attached.function("sweep")["Environment"]["Variables"]
    swept = SweepSettings.from_env({key: readable(value) for key, value in variables.items()})
    assert swept.attachments_bucket == NAME
    assert "UploadEvents" in swept.upload_queue_url
    assert "UploadEvents" in swept.upload_dead_letter_queue_url


def test_the_sweep_lists_uploads_and_reaches_their_queues(attached: Synthesised) -> None:
    (listing,) = (
        statement
        for policy in attached.properties("service", "AWS::IAM::Policy")
        for statement in policy["PolicyDocument"]["Statement"]
        if readable(statement["Resource"]).endswith(NAME)
        and statement.get("Condition", {}).get("StringEquals", {}).get("s3:prefix")
    )
    assert listing["Action"] == "s3:ListBucket"
    assert listing["Condition"] == {"StringEquals": {"s3:prefix": "uploads/"}}
    dead, live = (
        {
            action
            for action, resource in attached.granted("sweep")
            if "UploadEvents" in resource and ("DeadLetters" in resource) is is_dead
        }
        for is_dead in (True, False)
    )
    assert live == {"sqs:SendMessage", "sqs:GetQueueAttributes"}
    assert dead == {"sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"}


def test_operators_and_the_runner_find_it(attached: Synthesised) -> None:
    assert readable(attached.data["Outputs"][_OUTPUTS[ATTACHMENTS]]["Value"]) == NAME
    (policy,) = (
        policy
        for policy in attached.properties("service", "AWS::IAM::ManagedPolicy")
        if policy["ManagedPolicyName"] == "forebay-prod-operator"
    )
    listed = [
        readable(statement["Resource"])
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Action"] == "s3:ListBucket"
    ]
    assert f"arn:<AWS::Partition>:s3:::{NAME}" in listed


def test_the_runner_may_list_it_through_the_endpoint_of_its_network(
    flags: Mapping[str, Any], package: Path
) -> None:
    app = cdk.App(context=dict(flags))
    build_app(settings_of("prod", CHANGES), app=app, packages=lambda _: package)
    stacks = {stack.stack_name: stack.template["Resources"] for stack in app.synth().stacks}
    (project,) = (
        resource["Properties"]
        for resource in stacks["forebay-prod-operations"].values()
        if resource["Type"] == "AWS::CodeBuild::Project"
    )
    variables = {v["Name"]: readable(v["Value"]) for v in
                 project["Environment"]["EnvironmentVariables"]}  # fmt: skip
    assert variables["FOREBAY_ATTACHMENTS_BUCKET"] == NAME
    allowed = [
        (statement["Action"], readable(statement["Resource"]))
        for resource in stacks["forebay-prod-database"].values()
        if resource["Type"] == "AWS::EC2::VPCEndpoint"
        for statement in resource["Properties"]["PolicyDocument"]["Statement"]
    ]
    assert ("s3:ListBucket", f"arn:<AWS::Partition>:s3:::{NAME}") in allowed


def test_without_the_table_there_is_nothing_of_it(dev: Synthesised) -> None:
    assert len(dev.properties("data", "AWS::S3::Bucket")) == 1
    for name in FUNCTIONS:
        variables = dev.function(name)["Environment"]["Variables"]
        assert not [key for key in variables if "ATTACHMENTS" in key or "UPLOADS" in key]
