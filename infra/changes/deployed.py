"""Read the stacks of an environment that are deployed on AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from forebay.errors import SettingsError
from infra.changes.templates import Json, Stack, find_reads

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

_NO_CREDENTIALS: Final = (
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)


def read_deployed(
    regions: Mapping[str, str], connect: Callable[[str], CloudFormationClient]
) -> dict[str, Stack]:
    """The deployed ones of some stacks, by name.

    Args:
        regions: the region of each stack that may be deployed.
        connect: returns the client for a region.

    Raises:
        SettingsError: CloudFormation did not return a template.
    """
    try:
        clients = {region: connect(region) for region in set(regions.values())}
    except _NO_CREDENTIALS as exc:
        raise _describe_credentials(exc) from exc
    stacks = {}
    for name, region in regions.items():
        template = _read_template(clients[region], name)
        if template is not None:
            stacks[name] = Stack(name, template, _find_dependencies(template))
    return stacks


def list_names(prefix: str, databases: Iterable[int]) -> list[str]:
    """The names that stacks of an environment may have, whatever its settings were."""
    numbers = ("" if number == 1 else f"-{number}" for number in databases)
    roles = ("data", *(f"database{number}" for number in numbers), "identity", "service")
    return [f"{prefix}-{role}" for role in (*roles, "edge", "operations")]


def _read_template(client: CloudFormationClient, name: str) -> Mapping[str, Json] | None:
    try:
        # Not `Processed`: CloudFormation's own text of the template would differ from CDK's.
        body = client.get_template(StackName=name, TemplateStage="Original")["TemplateBody"]
    except ClientError as exc:
        if exc.response["Error"]["Code"] == "ValidationError":
            return None  # it is not deployed
        raise SettingsError(
            f"the template of the stack {name} can't be read: {exc}; check account and "
            "permissions (cloudformation:GetTemplate)"
        ) from exc
    except _NO_CREDENTIALS as exc:
        raise _describe_credentials(exc) from exc
    except BotoCoreError as exc:
        raise SettingsError(f"CloudFormation did not answer: {exc}; try again") from exc
    return body  # boto3 has parsed it, because CDK's templates are JSON


def _describe_credentials(cause: Exception) -> SettingsError:
    return SettingsError(
        f"no credentials of an account: {cause}; set AWS_PROFILE or log in (`aws sso login`)"
    )


def _find_dependencies(template: Mapping[str, Json]) -> frozenset[str]:
    return frozenset(read.stack for read in find_reads(template) if read.stack)
