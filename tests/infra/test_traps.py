"""The traps of this design on AWS, a test each; the docstring describes the trap.

The traps of the API, of the edge and of the alarms are in `test_api.py`, `test_edge.py` and
`test_operations.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.infra.definitions import get_definition, read_methods
from tests.infra.templates import Synthesised, readable
from tests.infra.variants import STANDBY, settings_of

USES_DATABASE = ["read", "status", "about", "firehose_consumer", "migrate", "sweep"]


@pytest.fixture(scope="module")
def standby(flags: Mapping[str, Any], package: Path) -> Synthesised:
    """The environment of a region that follows production's and can take its place."""
    return Synthesised.of(settings_of("prod", {"database": STANDBY}), flags, package)


def _streams(synthesised: Synthesised) -> list[Mapping[str, Any]]:
    return synthesised.properties("data", "AWS::KinesisFirehose::DeliveryStream")


def test_one_stream_s_quota_is_not_the_whole_api_s(prod: Synthesised) -> None:
    """Trap: a delivery stream accepts 1,000 to 2,000 requests a second, API Gateway 10,000."""
    streams = _streams(prod)
    names = readable(prod.function("write")["Environment"]["Variables"]["FOREBAY_STREAMS"]).split(
        ","
    )

    assert len(streams) == len(names) == len(set(names)) == prod.settings.stream.count == 2
    assert len({stream["DeliveryStreamName"] for stream in streams}) == 2
    allowed = {
        resource
        for action, resource in prod.granted("write")
        if action == "firehose:PutRecordBatch"
    }
    assert len(allowed) == 2


def test_all_streams_write_alike(prod: Synthesised) -> None:
    """Trap: with different settings, a command's treatment would depend on its stream."""
    destinations = [dict(stream["ExtendedS3DestinationConfiguration"]) for stream in _streams(prod)]
    for destination in destinations:
        destination.pop("CloudWatchLoggingOptions")

    assert destinations[0] == destinations[1]


def test_records_in_firehose_can_always_be_delivered(prod: Synthesised) -> None:
    """Trap: Firehose keeps accepted data for 24 hours; a blocked key or role loses it."""
    (bucket,) = prod.properties("data", "AWS::S3::Bucket")
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]

    # Not a customer's key, which an operator could disable.
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    for stream in _streams(prod):
        assert stream["DeliveryStreamEncryptionConfigurationInput"] == {"KeyType": "AWS_OWNED_CMK"}
        assert stream["ExtendedS3DestinationConfiguration"]["CloudWatchLoggingOptions"]["Enabled"]


def test_uploads_in_parts_are_noticed_too(prod: Synthesised) -> None:
    """Trap: below 60 s of buffering, Firehose's events are not `Put` but completed uploads."""
    (bucket,) = prod.properties("data", "AWS::S3::Bucket")

    assert prod.settings.stream.buffer_seconds < 60
    notified = bucket["NotificationConfiguration"]["QueueConfigurations"]
    assert {properties["Event"] for properties in notified} == {"s3:ObjectCreated:*"}


def test_other_objects_of_the_archive_cause_no_events(
    prod: Synthesised,
) -> None:
    """Trap: events of decisions and delivery errors in the same bucket would start a loop."""
    (bucket,) = prod.properties("data", "AWS::S3::Bucket")
    notified = bucket["NotificationConfiguration"]["QueueConfigurations"]

    prefixes = [properties["Filter"]["S3Key"]["Rules"][0]["Value"] for properties in notified]
    assert set(prefixes) == {"commands/", "imports/"}
    assert prefixes.count("commands/") == 1
    written = [
        resource
        for action, resource in prod.granted("firehose_consumer")
        if action == "s3:PutObject"
    ]
    assert len(written) == 1
    assert written[0].endswith("/decisions/*")


def test_a_failing_database_does_not_use_up_the_deliveries(prod: Synthesised) -> None:
    """Trap: partial failures don't slow Lambda down; only the visibility time-out does."""
    by_name = {
        properties["QueueName"]: properties
        for properties in prod.properties("data", "AWS::SQS::Queue")
    }
    queue = by_name["forebay-prod-archive-events"]

    hidden = queue["VisibilityTimeout"]
    assert hidden >= 6 * prod.function("firehose_consumer")["Timeout"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] * hidden >= 2 * 60 * 60


def test_an_object_of_any_size_has_the_time_it_needs(prod: Synthesised) -> None:
    """Trap: under a backlog, Firehose's objects grow, and an object is a single message."""
    consumer = prod.function("firehose_consumer")

    assert consumer["Timeout"] >= 300
    assert consumer["MemorySize"] >= 1024


def test_the_primary_is_sheltered(prod: Synthesised) -> None:
    """Trap: only the settings of the event source mapping bound the number of consumers."""
    (mapping,) = (
        properties
        for properties in prod.properties("service", "AWS::Lambda::EventSourceMapping")
        if "ArchiveEvents" in readable(properties["EventSourceArn"])
    )
    reserved = prod.function("firehose_consumer")["ReservedConcurrentExecutions"]

    assert mapping["ScalingConfig"]["MaximumConcurrency"] <= reserved


def test_functions_in_the_network_reach_the_archive(
    prod: Synthesised, flags: Mapping[str, Any]
) -> None:
    """Trap: in a network without an S3 endpoint, a consumer hangs until its time-out."""
    (endpoint,) = (
        properties
        for properties in prod.properties("database", "AWS::EC2::VPCEndpoint")
        if properties["VpcEndpointType"] == "Gateway"
    )

    assert readable(endpoint["ServiceName"]).endswith(".s3")
    assert len(endpoint["RouteTableIds"]) == len(prod.settings.database.network.all_zones)  # type: ignore[union-attr]
    (statement,) = endpoint["PolicyDocument"]["Statement"]
    assert {"s3:GetObject", "s3:ListBucket", "s3:PutObject"} <= set(statement["Action"])


def test_the_sweep_reaches_the_queues_from_the_network(prod: Synthesised) -> None:
    """Trap: in a network without an SQS endpoint, every sweep hangs without an error."""
    (endpoint,) = (
        properties
        for properties in prod.properties("database", "AWS::EC2::VPCEndpoint")
        if properties["VpcEndpointType"] == "Interface"
    )

    assert readable(endpoint["ServiceName"]).endswith(".sqs")
    assert endpoint["PrivateDnsEnabled"] is True
    # The endpoint admits only this environment's queues, and exactly the actions of the sweep and
    # of a redrive, which deletes the letters that it has sent.
    (statement,) = endpoint["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Allow"
    assert readable(statement["Resource"]).endswith(
        ":sqs:us-east-1:<AWS::AccountId>:forebay-prod-*"
    )
    granted = {action for action, _ in prod.granted("sweep") if action.startswith("sqs:")}
    assert set(statement["Action"]) == granted | {"sqs:DeleteMessage"}


@pytest.mark.parametrize("name", USES_DATABASE)
def test_functions_with_a_database_are_in_its_network(prod: Synthesised, name: Any) -> None:
    """Trap: functions outside the network can't reach the database; `write` must be outside."""
    assert "VpcConfig" in prod.function(name)
    assert "VpcConfig" not in prod.function("write")


@pytest.mark.parametrize("name", USES_DATABASE)
def test_network_interfaces_are_lambda_s_and_not_the_code_s(prod: Synthesised, name: Any) -> None:
    """Trap: AWS's managed policy for a VPC lets the function's own code write every log."""
    role = prod.service["Resources"][prod.function(name)["Role"]["Fn::GetAtt"][0]]["Properties"]

    assert "ManagedPolicyArns" not in role
    (network,) = (
        policy["PolicyDocument"]["Statement"]
        for policy in role["Policies"]
        if policy["PolicyName"] == "Network"
    )
    assert [statement["Effect"] for statement in network] == ["Allow", "Deny"]
    assert "lambda:SourceFunctionArn" in network[1]["Condition"]["ArnLike"]


@pytest.mark.parametrize("name", ["write", "read", "status", "about"])
def test_snapshots_are_of_published_versions_which_are_called(prod: Synthesised, name: Any) -> None:
    """Trap: SnapStart needs published versions, and excludes provisioned concurrency."""
    assert prod.function(name)["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    aliases = prod.properties("service", "AWS::Lambda::Alias")
    called = {readable(alias["FunctionName"]) for alias in aliases}
    assert any(name.title() in function for function in called)
    for alias in aliases:
        assert alias["Name"] == "live"
        assert "ProvisionedConcurrencyConfig" not in alias
    uris = [
        readable(method["Integration"]["Uri"])
        for (name, _), method in read_methods(get_definition(prod.service)).items()
        if name != "OPTIONS"
    ]
    assert uris
    assert all(uri.endswith(":live/invocations") for uri in uris)


def test_a_standby_only_reads(standby: Synthesised) -> None:
    """Trap: a secondary region has no writer; applying there would only make dead letters."""
    mappings = standby.properties("service", "AWS::Lambda::EventSourceMapping")

    assert [mapping["Enabled"] for mapping in mappings] == [False] * 3
    assert standby.function("write")["ReservedConcurrentExecutions"] == 0
    assert standby.resources("service", "AWS::Events::Rule") == []
    assert standby.resources("service", "Custom::Trigger") == []


def test_no_stack_exports_values(prod: Synthesised) -> None:
    """Trap: CloudFormation refuses to delete exports that another stack still imports.

    The importing stack is deployed later (AWS CloudFormation: "Get exported outputs from a deployed
    CloudFormation stack"). `test_changes.py` walks whole changes.
    """
    for template in (prod.data, prod.database, prod.service):
        assert "Fn::ImportValue" not in json.dumps(template)
        assert not any("Export" in output for output in template["Outputs"].values())
    assert "Fn::GetStackOutput" in json.dumps(prod.service)


def test_a_removed_stream_delivers_its_records(prod: Synthesised) -> None:
    """Trap: Firehose drops the buffer of a deleted stream, and its writes were answered 202."""
    streams = prod.resources("data", "AWS::KinesisFirehose::DeliveryStream")
    added = [
        properties
        for properties in streams
        if properties["Properties"]["DeliveryStreamName"] != "forebay-prod-commands"
    ]

    assert added
    for stream in added:
        assert stream["DeletionPolicy"] == "RetainExceptOnCreate"


def test_a_first_deployment_that_fails_leaves_no_name_taken(prod: Synthesised) -> None:
    """Trap: `Retain` also keeps resources of a failed first deployment, which block the next."""
    (bucket,) = prod.resources("data", "AWS::S3::Bucket")

    assert bucket["DeletionPolicy"] == "RetainExceptOnCreate"
    assert bucket["UpdateReplacePolicy"] == "Retain"


def test_the_archive_keeps_deleted_objects_and_moves_old_ones(prod: Synthesised) -> None:
    """Trap: a rule may expire versions too early, or move objects too small to be worth it."""
    (bucket,) = prod.properties("data", "AWS::S3::Bucket")
    rules = bucket["LifecycleConfiguration"]["Rules"]

    assert not any("ExpirationInDays" in rule for rule in rules)
    kept = [rule["NoncurrentVersionExpiration"] for rule in rules if "Transitions" not in rule]
    assert kept == [{"NoncurrentDays": 90}]
    (moved,) = (rule for rule in rules if "Transitions" in rule)
    assert moved["Prefix"] == "commands/"
    assert moved["ObjectSizeGreaterThan"] == "131072" or moved["ObjectSizeGreaterThan"] == 131072
    assert moved["Transitions"] == [{"StorageClass": "GLACIER_IR", "TransitionInDays": 90}]


def test_a_locked_archive_and_its_copy(flags: Mapping[str, Any], package: Path) -> None:
    """Trap: a copy may follow deletions, or its role may delete copied objects."""
    changes = {
        "archive.lock": {"mode": "compliance", "days": 30},
        "archive.copy_to": {"region": "eu-west-1", "bucket": "forebay-copy"},
    }
    synthesised = Synthesised.of(settings_of("prod", changes), flags, package)
    (bucket,) = synthesised.properties("data", "AWS::S3::Bucket")

    assert bucket["ObjectLockEnabled"] is True
    retention = bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert retention == {"Mode": "COMPLIANCE", "Days": 30}
    (rule,) = bucket["ReplicationConfiguration"]["Rules"]
    assert rule["DeleteMarkerReplication"] == {"Status": "Disabled"}
    assert readable(rule["Destination"]["Bucket"]).endswith(":s3:::forebay-copy")
    (role,) = (
        properties
        for properties in synthesised.properties("data", "AWS::IAM::Role")
        if "Copy" in {policy["PolicyName"] for policy in properties["Policies"]}
    )
    actions = {
        action
        for policy in role["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        for action in statement["Action"]
    }
    assert not any("Delete" in action for action in actions)


#: Actions without resource names on AWS: traces, Lambda's network interfaces, and metrics.
_NAMELESS = frozenset(
    {
        "xray:PutTraceSegments",
        "xray:PutTelemetryRecords",
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:GetMetricData",
    }
)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("environment", ["local", "dev", "prod"])
def test_only_actions_without_a_resource_are_allowed_on_all(
    request: pytest.FixtureRequest, environment: str
) -> None:
    synthesised_environment: Synthesised = request.getfixturevalue(environment)
    statements = [
        statement
        for stack in ("data", "service", "database")
        for kind in ("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy")
        for properties in synthesised_environment.properties(stack, kind)
        for document in [
            *([properties["PolicyDocument"]] if "PolicyDocument" in properties else []),
            *(policy["PolicyDocument"] for policy in properties.get("Policies", [])),
        ]
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
    ]
    assert statements
    for statement in statements:
        actions = _listed(statement["Action"])
        assert not [action for action in actions if "*" in action], statement
        if "*" in _listed(statement.get("Resource")):
            assert set(actions) <= _NAMELESS, statement
