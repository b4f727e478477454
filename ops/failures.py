"""Classifies failures of servers: those that may pass, and those that need another setting."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import psycopg
from botocore.exceptions import ClientError, ParamValidationError

from ops.exit_codes import ExitCode

#: Refusals of AWS that last until an operator changes the address or the permissions.
_LASTING_CODES: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "NoSuchBucket",
        "PermanentRedirect",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
# libpq gives no SQLSTATE if a connection fails.
_LASTING_REFUSAL: Final = re.compile(
    r'(database|role) "[^"]*" does not exist|authentication failed|no pg_hba\.conf entry'
    r"|is not permitted to log in|invalid port number|no password supplied"
)
_ANOTHER_SCHEMA: Final = (
    "the database is not one of Forebay, or has the schema of another release: check its address, "
    "or run this release's migrations"
)
#: The next step, by the error that lasts until an operator takes it.
_NEXT_STEPS: Final[Sequence[tuple[type[psycopg.Error], str]]] = (
    (psycopg.errors.UndefinedTable, _ANOTHER_SCHEMA),
    (psycopg.errors.UndefinedColumn, _ANOTHER_SCHEMA),
    (psycopg.errors.UndefinedFunction, _ANOTHER_SCHEMA),
    (psycopg.errors.InvalidSchemaName, _ANOTHER_SCHEMA),
    (psycopg.errors.ReadOnlySqlTransaction, "give the address of the primary, not of a replica"),
    (psycopg.errors.InsufficientPrivilege, "give the address with another user (docs/cli.md)"),
)


def describe_database_error(error: psycopg.Error) -> tuple[str, ExitCode]:
    """Return the message and the exit code for an error of psycopg."""
    message = f"the database: {_join(error)}"
    if isinstance(error, psycopg.OperationalError):
        if _LASTING_REFUSAL.search(message):
            return f"{message}; check --database-url, --replica-url or --env", ExitCode.REFUSED
        return f"{message}; try again", ExitCode.UNAVAILABLE
    for kind, next_step in _NEXT_STEPS:
        if isinstance(error, kind):
            return f"{message}; {next_step}", ExitCode.REFUSED
    return message, ExitCode.REFUSED


def describe_aws_error(error: BaseException) -> tuple[str, ExitCode]:
    """Return the message and the exit code for an error of AWS, or one that it has caused."""
    message = _join(error)
    for cause in _list_causes(error):
        if isinstance(cause, ParamValidationError) or (
            isinstance(cause, ClientError)
            and cause.response.get("Error", {}).get("Code") in _LASTING_CODES
        ):
            return f"{message}; check the address, the region and the credentials", ExitCode.REFUSED
    return f"{message}; try again", ExitCode.UNAVAILABLE


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _join(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
