"""The sources of a setting's value, and the option that a message names for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import typer
from botocore.exceptions import ClientError, NoCredentialsError

from ops.cli import _describe_error, app
from ops.context import _OUTPUTS, ARCHIVE, DATABASE, Context
from ops.errors import UsageError
from ops.exit_codes import ExitCode


def list_options(command: Any) -> Iterator[str]:
    """Yield the options of a command and of its subcommands."""
    for parameter in command.params:
        yield from parameter.opts
    for subcommand in getattr(command, "commands", {}).values():
        yield from list_options(subcommand)


class CloudFormation:
    """CloudFormation with some stacks, by name with their outputs."""

    def __init__(self, stacks: Mapping[str, Mapping[str, str]]) -> None:
        self._stacks = stacks
        self.described: list[str] = []

    def describe_stacks(self, **request: str) -> Mapping[str, Any]:
        """Return the outputs of one stack, as boto3 does."""
        name = request["StackName"]
        self.described.append(name)
        if name not in self._stacks:
            message = f"Stack with id {name} does not exist"
            raise ClientError(
                {"Error": {"Code": "ValidationError", "Message": message}}, "DescribeStacks"
            )
        outputs = [
            {"OutputKey": key, "OutputValue": value} for key, value in self._stacks[name].items()
        ]
        return {"Stacks": [{"StackName": name, "Outputs": outputs}]}


class ContextOnAws(Context):
    """A context with the given client only."""

    cloudformation: CloudFormation

    def client(self, service: str) -> Any:
        """Return the client."""
        assert service == "cloudformation"
        return self.cloudformation


def build_context(stacks: Mapping[str, Mapping[str, str]]) -> ContextOnAws:
    context = ContextOnAws({}, env="prod", environment={})
    context.cloudformation = CloudFormation(stacks)
    return context


def test_the_database_is_that_of_the_deployed_functions() -> None:
    """A change of settings may leave the stack of an earlier database."""
    left = {"DatabaseUrl": "postgresql://old/db"}
    stacks = {
        "forebay-prod-data": {"ArchiveBucketName": "bucket"},
        "forebay-prod-service": {"DatabaseStackName": "forebay-prod-database-2"},
        "forebay-prod-database": left,
        "forebay-prod-database-2": {"DatabaseUrl": "postgresql://new/db"},
    }

    assert build_context(stacks).get(DATABASE) == "postgresql://new/db"
    assert build_context(stacks).get(ARCHIVE) == "bucket"
    external = {"DatabaseUrl": "postgresql://external/db"}
    context = build_context({**stacks, "forebay-prod-service": external})
    assert context.get(DATABASE) == "postgresql://external/db"
    assert context.cloudformation.described == ["forebay-prod-data", "forebay-prod-service"]


def test_a_stack_that_is_not_deployed_is_named() -> None:
    with pytest.raises(UsageError, match="forebay-prod-data can't be described"):
        build_context({}).get(DATABASE)


def test_blanks_around_a_value_do_not_count() -> None:
    """Carriage returns that an editor has saved in a file of variables are no part of a value."""
    variables = {"FOREBAY_ARCHIVE_BUCKET": "bucket\r", "FOREBAY_DATABASE_URL": " \r"}
    context = Context({DATABASE: "postgresql://host/db \n"}, environment=variables)

    assert context.get(ARCHIVE) == "bucket"
    assert context.get(DATABASE) == "postgresql://host/db"
    assert Context({}, environment=variables).find(DATABASE) is None


def test_every_option_that_a_message_names_exists() -> None:
    named = {setting.option for setting in _OUTPUTS if setting.option is not None}

    assert named <= set(list_options(typer.main.get_command(app)))


def test_the_region_is_that_of_the_aws_cli() -> None:
    environment = {"AWS_REGION": "eu-central-1"}

    client = Context(env="dev", environment=environment).client("sqs")

    assert client.meta.region_name == "eu-central-1"


def test_missing_credentials_are_not_reported_as_a_failure_of_aws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(NoCredentialsError) as caught:
        Context(env="dev", environment={"AWS_REGION": "us-east-1"}).get(ARCHIVE)

    message, code = _describe_error(caught.value)
    assert "set AWS_PROFILE" in message
    assert code is ExitCode.USAGE
