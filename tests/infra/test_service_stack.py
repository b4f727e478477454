"""ServiceStack: the functions, their environment variables and their permissions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from infra.settings import FunctionName, PackageName
from tests.infra.templates import LOCAL_CONTEXT, Synthesised, readable
from tests.infra.variants import ACCOUNT, settings_of

OWN_VARIABLES: dict[FunctionName, set[str]] = {
    "write": {
        "FOREBAY_AUTHORIZATION",
        "FOREBAY_STREAMS",
        "FOREBAY_ARCHIVE_BUCKET",
        "FOREBAY_BUFFER_SECONDS",
        "FOREBAY_CORS_ALLOW_ORIGIN",
    },
    "read": {
        "FOREBAY_AUTHORIZATION",
        "FOREBAY_REPLICA_URL",
        "FOREBAY_DATABASE_URL",
        "FOREBAY_BUFFER_SECONDS",
        "FOREBAY_CORS_ALLOW_ORIGIN",
        "FOREBAY_STATEMENT_TIMEOUT_SECONDS",
        "FOREBAY_WAIT_CAP_SECONDS",
    },
    "about": {
        "FOREBAY_REPLICA_URL",
        "FOREBAY_ARCHIVE_BUCKET",
        "FOREBAY_REQUIRE_API_KEY",
        "FOREBAY_CORS_ALLOW_ORIGIN",
        "FOREBAY_DEAD_LETTER_QUEUE_URL",
        "FOREBAY_STATUS_ATTENTION_SECONDS",
    },
    "imports": {"FOREBAY_ARCHIVE_BUCKET"},
    "firehose_consumer": {"FOREBAY_DATABASE_URL", "FOREBAY_ARCHIVE_BUCKET", "FOREBAY_QUEUE_URL"},
    "migrate": {"FOREBAY_DATABASE_URL", "FOREBAY_USERS"},
    "sweep": {
        "FOREBAY_DATABASE_URL",
        "FOREBAY_ARCHIVE_BUCKET",
        "FOREBAY_QUEUE_URL",
        "FOREBAY_DEAD_LETTER_QUEUE_URL",
        "FOREBAY_IMPORT_QUEUE_URL",
        "FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL",
        "FOREBAY_SWEEP_GRACE_SECONDS",
        "FOREBAY_SWEEP_LOOKBACK_SECONDS",
        "FOREBAY_SWEEP_PATIENCE_SECONDS",
    },
}
OWN_VARIABLES["status"] = OWN_VARIABLES["read"]
FUNCTIONS: tuple[FunctionName, ...] = get_args(FunctionName)
COMMON_VARIABLES = {
    "FOREBAY_ENV",
    "FOREBAY_LOG_LEVEL",
}


#: The variables of the write function in an environment with idempotency records.
IDEMPOTENCY_VARIABLES = {
    "FOREBAY_IDEMPOTENCY_TABLE",
    "FOREBAY_IDEMPOTENCY_RETENTION_SECONDS",
    "FOREBAY_IDEMPOTENCY_REQUIRED",
}


def _variables(synthesised: Synthesised, name: FunctionName) -> dict[str, Any]:
    variables: dict[str, Any] = synthesised.function(name)["Environment"]["Variables"]
    return variables


def _own(granted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The permissions besides log, traces, network, database login and attachments.

    tests/infra/test_attachments.py has those on attachments.
    """
    return {
        (action, resource)
        for action, resource in granted
        if action.partition(":")[0] not in {"logs", "xray", "ec2", "rds-db"}
        and "-files-" not in resource
    }


def _archive(synthesised: Synthesised) -> str:
    """The archive bucket's ARN; the bucket has a fixed name, not a generated name."""
    name = synthesised.archive["Properties"]["BucketName"]
    return f"arn:<AWS::Partition>:s3:::{readable(name)}"


def _export(synthesised: Synthesised, *parts: str) -> str:
    """The name by which stacks read the only output of the data stack with all these parts."""
    (name,) = (
        # The emulator has exports, AWS references by the output's id.
        str(output["Export"]["Name"]) if "Export" in output else name
        for name, output in synthesised.data["Outputs"].items()
        if ("Export" in output or name.startswith("PublishOutput"))
        and all(part in name for part in parts)
    )
    return name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_has_exactly_the_variables_that_it_needs(
    dev: Synthesised, name: FunctionName
) -> None:
    assert set(_variables(dev, name)) == OWN_VARIABLES[name] | COMMON_VARIABLES


def test_the_read_function_gets_the_scopes_of_principals(
    flags: Mapping[str, Any], package: Path
) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/reports"
    authorization = {"kind": "iam", "principals": {role: ["status.read"]}}
    settings = settings_of("dev", {"api.authorization": authorization})
    variables = _variables(Synthesised.of(settings, flags, package), "read")

    assert variables["FOREBAY_AUTHORIZATION"] == "iam"
    assert json.loads(variables["FOREBAY_PRINCIPALS"]) == {role: ["status.read"]}


def test_only_local_functions_that_accept_commands_get_the_address_of_firehose(
    local: Synthesised,
) -> None:
    functions = {
        name for name in FUNCTIONS if "AWS_ENDPOINT_URL_FIREHOSE" in _variables(local, name)
    }

    # The import sends the commands of attachments.
    assert functions == {"write", "imports"}
    endpoint = _variables(local, "write")["AWS_ENDPOINT_URL_FIREHOSE"]
    assert endpoint == LOCAL_CONTEXT["firehose_endpoint"]


def test_the_function_that_reads_is_given_the_replica(local: Synthesised) -> None:
    assert _variables(local, "read")["FOREBAY_REPLICA_URL"] == LOCAL_CONTEXT["replica_url"]


def test_waits_have_a_concurrency_of_their_own(either: Synthesised) -> None:
    """Requests that wait for a command must not use up the concurrency of reads."""
    read, status = either.function("read"), either.function("status")
    assert read["Handler"] == status["Handler"]
    assert read["Code"] == status["Code"]
    assert status["ReservedConcurrentExecutions"] > 0
    waiting = [route for route in either.routes if route.action == "status"]
    assert {route.function for route in waiting} == {"status"}
    assert {route.function for route in either.routes if route not in waiting} == {
        "read",
        "write",
        "about",
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_has_the_size_of_the_settings(
    either: Synthesised, name: FunctionName
) -> None:
    function, size = either.function(name), either.settings.functions.of(name)

    assert function["MemorySize"] == size.memory_mebibytes
    assert function["Timeout"] == size.timeout_seconds
    assert function.get("ReservedConcurrentExecutions") == size.reserved_concurrency
    assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["arm64"])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_writes_its_own_log_only(either: Synthesised, name: FunctionName) -> None:
    group = either.function(name)["LoggingConfig"]["LogGroup"]["Ref"]
    logging = {grant for grant in either.granted(name) if grant[0].startswith("logs:")}

    assert logging == {
        ("logs:CreateLogStream", f"<{group}.Arn>"),
        ("logs:PutLogEvents", f"<{group}.Arn>"),
    }


def test_the_write_function_may_put_commands_and_nothing_else(either: Synthesised) -> None:
    name = either.only("data", "AWS::KinesisFirehose::DeliveryStream")["DeliveryStreamName"]
    account = either.settings.account or "<AWS::AccountId>"
    stream = f"arn:aws:firehose:us-east-1:{account}:deliverystream/{name}"

    granted = {grant for grant in _own(either.granted("write")) if "dynamodb:" not in grant[0]}
    assert granted == {
        ("firehose:PutRecord", stream),
        ("firehose:PutRecordBatch", stream),
        ("s3:PutObject", f"{_archive(either)}/commands/*"),
    }


def test_only_the_write_function_uses_the_table_of_records(recording: Synthesised) -> None:
    for name in FUNCTIONS:
        own = set(_variables(recording, name)) & IDEMPOTENCY_VARIABLES
        assert own == (IDEMPOTENCY_VARIABLES if name == "write" else set()), name
        granted = {grant for grant in recording.granted(name) if grant[0].startswith("dynamodb:")}
        assert bool(granted) == (name == "write"), name
    variables = _variables(recording, "write")
    assert variables["FOREBAY_IDEMPOTENCY_TABLE"] == "forebay-dev-idempotency"
    assert variables["FOREBAY_IDEMPOTENCY_RETENTION_SECONDS"] == str(48 * 3600)
    assert variables["FOREBAY_IDEMPOTENCY_REQUIRED"] == "false"


def test_the_write_function_may_neither_delete_nor_list_records(recording: Synthesised) -> None:
    granted = {grant for grant in recording.granted("write") if grant[0].startswith("dynamodb:")}
    (arn,) = {resource for _, resource in granted}

    assert {action for action, _ in granted} == {
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
    }
    assert arn.endswith(":table/forebay-dev-idempotency")


def test_the_write_function_needs_no_network_to_reach_the_table(recording: Synthesised) -> None:
    """In a network it would need an endpoint of DynamoDB."""
    assert "VpcConfig" not in recording.function("write")


def test_the_import_may_read_files_and_put_commands_and_reports(either: Synthesised) -> None:
    granted = _own(either.granted("imports"))

    assert {grant for grant in granted if grant[0].startswith("s3:")} == {
        ("s3:GetObject", f"{_archive(either)}/imports/*"),
        ("s3:GetObjectVersion", f"{_archive(either)}/imports/*"),
        ("s3:GetObject", f"{_archive(either)}/commands/*/import-*"),
        ("s3:PutObject", f"{_archive(either)}/commands/*"),
        ("s3:PutObject", f"{_archive(either)}/imports/*.report.json"),
    }


def _puts(either: Synthesised) -> list[tuple[str, Any]]:
    """Pattern and condition of every permission of functions to put objects into the archive."""
    return [
        (readable(resource).removeprefix(f"{_archive(either)}/"), statement.get("Condition"))
        for policy in either.properties("service", "AWS::IAM::Policy")
        for statement in policy["PolicyDocument"]["Statement"]
        if "s3:PutObject" in statement["Action"]
        # CDK merges statements that differ in their resources only.
        for resource in (
            statement["Resource"]
            if isinstance(statement["Resource"], list)
            else [statement["Resource"]]
        )
        if "-files-" not in readable(resource)
    ]


def test_no_function_may_overwrite_an_object_of_the_archive(either: Synthesised) -> None:
    """A put is allowed only with `If-None-Match`, for which S3 accepts only `*`.

    Only the report of an import may be replaced, by a request with `If-Match`.
    """
    creates = {"Null": {"s3:if-none-match": "false"}}
    replaces = {"Null": {"s3:if-match": "false"}}
    report = "imports/*.report.json"

    assert sorted(_puts(either), key=str) == sorted(
        [
            ("commands/*", creates),  # the write function
            ("commands/*", creates),  # the import
            ("decisions/*", creates),
            (report, creates),
            (report, replaces),
        ],
        key=str,
    )


def test_the_consumer_may_read_commands_and_read_and_create_decisions(either: Synthesised) -> None:
    granted = either.granted("firehose_consumer")

    assert {grant for grant in granted if grant[0].startswith("s3:")} == {
        ("s3:GetObject", f"{_archive(either)}/commands/*"),
        ("s3:PutObject", f"{_archive(either)}/decisions/*"),
        ("s3:GetObject", f"{_archive(either)}/decisions/*"),
        ("s3:GetObject", f"{_archive(either)}/rejections/*"),
        ("s3:ListBucket", _archive(either)),
    }


def test_the_about_function_may_list_and_count_but_not_read(
    either: Synthesised,
) -> None:
    granted = _own(either.granted("about"))
    (counting,) = granted - {("s3:ListBucket", _archive(either))}
    assert counting[0] == "sqs:GetQueueAttributes"
    assert "DeadLetters" in counting[1]
    assert "Replay" not in counting[1]
    conditions = [
        statement["Condition"]
        for policy in either.properties("service", "AWS::IAM::Policy")
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Action"] == "s3:ListBucket" and "Condition" in statement
    ]
    commands = {"StringEquals": {"s3:prefix": "commands/"}}
    rejections = {"StringEquals": {"s3:prefix": ["decisions/", "rejections/"]}}
    swept = {"StringEquals": {"s3:prefix": ["commands/", "imports/"]}}
    uploads = {"StringEquals": {"s3:prefix": "uploads/"}}
    has_uploads = either.settings.attachments is not None
    assert conditions.count(commands) == 1
    assert conditions.count(swept) == 1
    assert conditions.count(rejections) == 1  # the consumer
    assert conditions.count(uploads) == has_uploads
    assert len(conditions) == 3 + has_uploads


def test_the_about_function_has_no_address_of_the_primary(either: Synthesised) -> None:
    assert "FOREBAY_DATABASE_URL" not in _variables(either, "about")
    url = readable(_variables(either, "about")["FOREBAY_REPLICA_URL"])
    assert url == readable(_variables(either, "read")["FOREBAY_REPLICA_URL"])


def test_the_status_calls_for_an_operator_when_the_alarm_does(either: Synthesised) -> None:
    seconds = _variables(either, "about")["FOREBAY_STATUS_ATTENTION_SECONDS"]
    assert seconds == str(either.settings.operations.apply_lag_seconds)


def test_the_description_names_the_routes_that_need_a_key(either: Synthesised) -> None:
    value = _variables(either, "about")["FOREBAY_REQUIRE_API_KEY"]
    assert value == str(either.settings.api.require_api_key).lower()


def test_the_consumer_may_take_from_its_queues_and_not_send(either: Synthesised) -> None:
    queues = {
        (action, resource)
        for action, resource in either.granted("firehose_consumer")
        if action.startswith("sqs:")
    }

    assert {"sqs:ReceiveMessage", "sqs:DeleteMessage"} <= {action for action, _ in queues}
    assert "sqs:SendMessage" not in {action for action, _ in queues}
    assert {
        name
        for name in ("ArchiveEventsQueue", "ReplayQueue", "DeadLetters")
        if any(name in resource for _, resource in queues)
    } == {"ArchiveEventsQueue", "ReplayQueue"}


def test_the_sweep_may_list_the_archive_enqueue_and_look_at_dead_letters(
    either: Synthesised,
) -> None:
    """The sweep reads no objects, deletes no messages, and receives none from the live queues."""
    names = ["ArchiveEvents", "ImportEvents"]
    if either.settings.attachments is not None:
        names.append("UploadEvents")
    queues = [f"<{_export(either, f'{name}Queue', 'Arn')}>" for name in names]
    dead_letters = [f"<{_export(either, f'{name}DeadLetters', 'Arn')}>" for name in names]

    assert _own(either.granted("sweep")) == {
        ("s3:ListBucket", _archive(either)),
        *(("sqs:SendMessage", queue) for queue in queues),
        *(("sqs:GetQueueAttributes", queue) for queue in queues + dead_letters),
        *(("sqs:ReceiveMessage", queue) for queue in dead_letters),
        *(("sqs:ChangeMessageVisibility", queue) for queue in dead_letters),
    }


def test_the_sweep_is_called_only_by_its_schedule(either: Synthesised) -> None:
    rule = either.only("service", "AWS::Events::Rule")
    minutes = either.settings.sweep.every_minutes
    rates = {1: "rate(1 minute)", 1_440: "rate(1 day)"}

    assert (rule["ScheduleExpression"], rule["State"]) == (rates[minutes], "ENABLED")
    (target,) = rule["Targets"]
    sweep = target["Arn"]["Fn::GetAtt"][0]
    handler = either.service["Resources"][sweep]["Properties"]["Handler"]
    assert handler == "lambdas.sweep.handler.lambda_handler"
    (permission,) = (
        resource
        for resource in either.properties("service", "AWS::Lambda::Permission")
        if resource["FunctionName"] == target["Arn"]
    )
    assert permission["Principal"] == "events.amazonaws.com"
    assert "Rule" in str(permission["SourceArn"])


@pytest.mark.parametrize("name", ["read", "migrate"])
def test_functions_that_use_only_the_database_have_no_aws_permissions(
    either: Synthesised, name: FunctionName
) -> None:
    assert _own(either.granted(name)) == set()


def _mapping(synthesised: Synthesised, queue: str) -> Any:
    (properties,) = (
        properties
        for properties in synthesised.properties("service", "AWS::Lambda::EventSourceMapping")
        if queue in readable(properties["EventSourceArn"])
    )
    return properties


def test_files_are_imported_one_at_a_time_and_few_at_once(either: Synthesised) -> None:
    mapping = _mapping(either, "ImportEvents")

    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert (mapping["BatchSize"], mapping["ScalingConfig"]) == (1, {"MaximumConcurrency": 2})


def test_failed_messages_are_reported_one_by_one(either: Synthesised) -> None:
    mappings = [_mapping(either, "ArchiveEvents"), _mapping(either, "Replay")]
    consumer = either.settings.consumer

    for mapping in mappings:
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["BatchSize"] == consumer.batch_size
        assert mapping["MaximumBatchingWindowInSeconds"] == consumer.window_seconds


def test_live_traffic_and_replays_have_connections_of_their_own(either: Synthesised) -> None:
    """Neither waits for the other, and both together fit into the reserved concurrency."""
    limits = {
        "Replay" in readable(mapping["EventSourceArn"]): mapping["ScalingConfig"]
        for mapping in either.properties("service", "AWS::Lambda::EventSourceMapping")
    }
    settings = either.settings

    assert limits == {
        False: {"MaximumConcurrency": settings.consumer.max_concurrency},
        True: {"MaximumConcurrency": settings.replay.max_concurrency},
    }
    reserved = settings.functions.firehose_consumer.reserved_concurrency
    assert reserved is not None
    assert reserved >= settings.consumer.max_concurrency + settings.replay.max_concurrency


def test_the_schema_is_migrated_before_other_code_is_deployed(either: Synthesised) -> None:
    everything = either.service["Resources"]
    (trigger,) = (
        name for name, resource in everything.items() if resource["Type"] == "Custom::Trigger"
    )

    waiting = {
        resource["Properties"]["Handler"]
        for resource in either.resources("service", "AWS::Lambda::Function")
        if trigger in resource.get("DependsOn", [])
    }
    assert waiting == {
        f"lambdas.{name}.handler.lambda_handler"
        for name in get_args(PackageName)
        if name != "migrate"
    }


def test_a_failed_migration_fails_the_deployment(either: Synthesised) -> None:
    """Only a synchronous invocation reports its failure to CloudFormation."""
    trigger = either.only("service", "Custom::Trigger")

    assert trigger["InvocationType"] == "RequestResponse"
    version = either.service["Resources"][trigger["HandlerArn"]["Ref"]]
    assert version["Type"] == "AWS::Lambda::Version"
    assert int(trigger["Timeout"]) == 1000 * either.function("migrate")["Timeout"]


def test_outputs_contain_the_names_that_operators_and_tools_need(either: Synthesised) -> None:
    assert {
        "ApiId",
        "StageName",
        "WriteFunctionName",
        "ReadFunctionName",
        "AboutFunctionName",
        "ImportsFunctionName",
        "SweepFunctionName",
        "ConsumerFunctionName",
        "MigrateFunctionName",
    } <= set(either.service["Outputs"])


def test_the_consumer_is_deployed_before_the_function_that_may_send_it_something_new(
    dev: Synthesised,
) -> None:
    handlers = {
        name: resource["Properties"]["Handler"]
        for name, resource in dev.service["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function"
    }
    named = {handler.split(".")[1]: name for name, handler in handlers.items() if "." in handler}
    assert named["consumer"] in dev.service["Resources"][named["write"]]["DependsOn"]
