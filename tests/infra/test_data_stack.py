"""DataStack: the resources that must survive, and their protection."""

from __future__ import annotations

import datetime as dt
import uuid
from fnmatch import fnmatchcase

from forebay.archive.layout import COMMANDS_PREFIX, IMPORTS_PREFIX
from forebay.aws.records import EXPIRY, KEY
from infra.settings import FunctionName, Settings
from local.firehose.streams import StreamConfig
from tests.infra.templates import Synthesised, readable

DAY_SECONDS = 24 * 60 * 60


def test_the_archive_survives_its_stack(either: Synthesised) -> None:
    bucket = either.archive

    assert bucket["DeletionPolicy"] == "RetainExceptOnCreate"
    assert bucket["UpdateReplacePolicy"] == "Retain"
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}


def test_the_archive_is_private_and_encrypted(either: Synthesised) -> None:
    bucket = either.archive["Properties"]

    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_the_table_of_records_survives_its_stack(recording: Synthesised) -> None:
    (table,) = recording.resources("data", "AWS::DynamoDB::Table")

    assert table["DeletionPolicy"] == "RetainExceptOnCreate"
    assert table["UpdateReplacePolicy"] == "Retain"
    assert table["Properties"]["DeletionProtectionEnabled"] is True
    backup = table["Properties"]["PointInTimeRecoverySpecification"]
    assert backup["PointInTimeRecoveryEnabled"] is True


def test_the_table_of_records_is_encrypted_and_deletes_expired_records(
    recording: Synthesised,
) -> None:
    table = recording.only("data", "AWS::DynamoDB::Table")

    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["TimeToLiveSpecification"] == {"AttributeName": EXPIRY, "Enabled": True}
    assert table["KeySchema"] == [{"AttributeName": KEY, "KeyType": "HASH"}]


def test_there_is_a_table_of_records_only_by_setting(dev: Synthesised, local: Synthesised) -> None:
    assert dev.resources("data", "AWS::DynamoDB::Table") == []
    assert local.only("data", "AWS::DynamoDB::Table")["TableName"] == "forebay-local-idempotency"
    for name in ("staging", "prod"):
        idempotency = Settings.load(name, {}).idempotency
        assert idempotency is not None
        assert idempotency.when_unavailable == "refuse"


def test_archive_and_queues_refuse_plain_http(either: Synthesised) -> None:
    policies = [
        *either.properties("data", "AWS::S3::BucketPolicy"),
        *either.properties("data", "AWS::SQS::QueuePolicy"),
    ]

    assert len(policies) == (7 if either.settings.attachments is None else 10)
    for policy in policies:
        assert any(
            statement["Effect"] == "Deny"
            and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
            for statement in policy["PolicyDocument"]["Statement"]
        )


def test_the_archive_notifies_the_queue_of_new_commands_only(
    either: Synthesised,
) -> None:
    """Rejections and delivery errors are in the same bucket; their events would start a loop."""
    bucket = either.archive["Properties"]

    notified, *imports = bucket["NotificationConfiguration"]["QueueConfigurations"]
    assert notified["Event"] == "s3:ObjectCreated:*"
    assert notified["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": COMMANDS_PREFIX}]
    assert "ArchiveEvents" in readable(notified["Queue"])
    for statement in imports:
        assert "ImportEvents" in readable(statement["Queue"])


def test_files_to_import_have_a_queue_of_their_own(either: Synthesised) -> None:
    bucket = either.archive["Properties"]

    _, *imports = bucket["NotificationConfiguration"]["QueueConfigurations"]
    rules = [
        {rule["Name"]: rule["Value"] for rule in statement["Filter"]["S3Key"]["Rules"]}
        for statement in imports
    ]
    # S3 sends events for all objects below it, so that files that aren't imported get a report too.
    assert rules == [{"prefix": IMPORTS_PREFIX}]


def test_only_the_archive_may_send_to_the_queue(either: Synthesised) -> None:
    bucket = either.archive
    allowed = [
        statement
        for policy in either.properties("data", "AWS::SQS::QueuePolicy")
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow" and "UploadEvents" not in readable(statement["Resource"])
    ]

    assert len(allowed) == 2
    assert allowed[0] == {**allowed[1], "Resource": allowed[0]["Resource"]}
    statement = allowed[0]
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    source = readable(statement["Condition"]["ArnEquals"]["aws:SourceArn"])
    assert source.endswith(f":s3:::{readable(bucket['Properties']['BucketName'])}")
    account = statement["Condition"]["StringEquals"]["aws:SourceAccount"]
    assert account == {"Ref": "AWS::AccountId"}


def test_the_bucket_waits_for_the_queue_that_it_notifies(either: Synthesised) -> None:
    bucket = either.archive

    waits_for = {either.data["Resources"][name]["Type"] for name in bucket["DependsOn"]}
    assert "AWS::SQS::QueuePolicy" in waits_for


def test_dead_letters_outlive_the_queue(either: Synthesised) -> None:
    """A dead letter keeps the age that it had in the queue."""
    by_name = {
        properties["QueueName"]: properties
        for properties in either.properties("data", "AWS::SQS::Queue")
    }
    for purpose in ("archive-events", "replay"):
        queue = by_name[f"{either.settings.prefix}-{purpose}"]
        dead = by_name[f"{either.settings.prefix}-{purpose}-dead"]

        assert queue["RedrivePolicy"]["maxReceiveCount"] >= 5
        assert queue["MessageRetentionPeriod"] == 4 * DAY_SECONDS
        assert dead["MessageRetentionPeriod"] == 14 * DAY_SECONDS
        assert queue["SqsManagedSseEnabled"] is dead["SqsManagedSseEnabled"] is True


def test_a_message_stays_hidden_for_six_timeouts_of_the_consumer(either: Synthesised) -> None:
    pairs: list[tuple[str, FunctionName]]
    pairs = [
        ("archive-events", "firehose_consumer"),
        ("replay", "firehose_consumer"),
        ("import-events", "imports"),
    ]
    for queue, function in pairs:
        (visibility,) = (
            properties["VisibilityTimeout"]
            for properties in either.properties("data", "AWS::SQS::Queue")
            if properties["QueueName"] == f"{either.settings.prefix}-{queue}"
        )
        assert visibility >= 6 * either.function(function)["Timeout"]


def test_the_stream_delivers_compressed_objects_by_hour(either: Synthesised) -> None:
    stream = either.only("data", "AWS::KinesisFirehose::DeliveryStream")
    destination = stream["ExtendedS3DestinationConfiguration"]

    assert stream["DeliveryStreamType"] == "DirectPut"
    assert destination["Prefix"] == f"{COMMANDS_PREFIX}!{{timestamp:yyyy/MM/dd/HH}}/"
    assert destination["ErrorOutputPrefix"] == (
        "delivery-errors/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd/HH}/"
    )
    assert destination["CompressionFormat"] == "GZIP"
    assert destination["FileExtension"].endswith(".gz")


def test_the_stream_has_the_buffer_of_the_settings(either: Synthesised) -> None:
    stream = either.only("data", "AWS::KinesisFirehose::DeliveryStream")

    assert stream["ExtendedS3DestinationConfiguration"]["BufferingHints"] == {
        "SizeInMBs": either.settings.stream.buffer_mebibytes,
        "IntervalInSeconds": either.settings.stream.buffer_seconds,
    }


def test_the_stream_is_encrypted_and_logs_its_errors(either: Synthesised) -> None:
    stream = either.only("data", "AWS::KinesisFirehose::DeliveryStream")

    assert stream["DeliveryStreamEncryptionConfigurationInput"] == {"KeyType": "AWS_OWNED_CMK"}
    destination = stream["ExtendedS3DestinationConfiguration"]
    assert destination["CloudWatchLoggingOptions"]["Enabled"] is True


def test_the_streams_reach_only_their_own_objects(
    either: Synthesised,
) -> None:
    """Firehose sends no `If-None-Match`, so its role is restricted to its own object names."""
    stream = either.only("data", "AWS::KinesisFirehose::DeliveryStream")["DeliveryStreamName"]
    role = either.only("data", "AWS::IAM::Role")
    (policy,) = role["Policies"]

    objects = {
        # The bucket's name ends with the region.
        readable(resource).rpartition(str(either.settings.region))[2]
        for statement in policy["PolicyDocument"]["Statement"]
        if "s3:PutObject" in statement["Action"]
        for resource in statement["Resource"]
    }
    assert objects == {f"/commands/*/{stream}-*", "/delivery-errors/*"}
    for way in ("direct", "import", "amend"):
        key = f"/commands/2026/11/29/19/{way}-01a1fc5d-903c-779d-961e-d3f40d76fc6e.gz"
        assert not any(fnmatchcase(key, pattern) for pattern in objects)


def test_the_role_of_firehose_covers_its_writes(either: Synthesised) -> None:
    """The local Firehose server names objects by AWS's rules."""
    stream = either.only("data", "AWS::KinesisFirehose::DeliveryStream")
    destination = stream["ExtendedS3DestinationConfiguration"]
    description = {
        "DeliveryStreamName": stream["DeliveryStreamName"],
        "DeliveryStreamType": stream["DeliveryStreamType"],
        "VersionId": "12",
        "Destinations": [{"ExtendedS3DestinationDescription": {**destination, "BucketARN": ""}}],
    }
    moment = dt.datetime(2026, 11, 29, 19, tzinfo=dt.UTC)
    key = StreamConfig.from_description(description).object_key(moment, str(uuid.uuid4()))

    assert fnmatchcase(key, f"commands/*/{stream['DeliveryStreamName']}-*")


def test_every_log_is_forgotten_in_time(either: Synthesised) -> None:
    for stack in ("data", "service"):
        kept = [
            group.get("RetentionInDays")
            for group in either.properties(stack, "AWS::Logs::LogGroup")
        ]
        assert set(kept) == {either.settings.logs.retention_days}


def test_outputs_contain_the_names_that_operators_and_tools_need(either: Synthesised) -> None:
    assert {
        "ArchiveBucketName",
        "DeliveryStreamNames",
        "QueueUrl",
        "ImportQueueUrl",
        "DeadLetterQueueUrl",
        "ReplayQueueUrl",
        "ReplayDeadLetterQueueUrl",
    } <= set(either.data["Outputs"])
