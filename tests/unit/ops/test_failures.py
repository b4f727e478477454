"""Failures of servers: a repetition is proposed only if it can help."""

from __future__ import annotations

import psycopg
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError

from forebay.errors import TransientError
from ops.exit_codes import ExitCode
from ops.failures import describe_aws_error, describe_database_error


def refuse(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "ListObjectsV2")


def raised_from(cause: Exception) -> TransientError:
    error = TransientError("s3://bucket/commands/ can't be listed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (refuse("NoSuchBucket"), ExitCode.REFUSED),
        (refuse("AccessDenied"), ExitCode.REFUSED),
        (ParamValidationError(report="x"), ExitCode.REFUSED),
        (refuse("SlowDown"), ExitCode.UNAVAILABLE),
        (refuse("InternalError"), ExitCode.UNAVAILABLE),
        (EndpointConnectionError(endpoint_url="http://x"), ExitCode.UNAVAILABLE),
    ],
)
def test_a_refusal_that_lasts_is_not_worth_another_try(cause: Exception, code: ExitCode) -> None:
    for error in (cause, raised_from(cause)):
        message, exit_code = describe_aws_error(error)
        assert exit_code == code
        assert message.endswith("try again") == (code is ExitCode.UNAVAILABLE)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (psycopg.OperationalError("Connection refused"), ExitCode.UNAVAILABLE, "try again"),
        (psycopg.OperationalError('database "x" does not exist'), ExitCode.REFUSED, "--env"),
        (psycopg.errors.UndefinedColumn("no column"), ExitCode.REFUSED, "migrations"),
        (psycopg.errors.ReadOnlySqlTransaction("read-only"), ExitCode.REFUSED, "the primary"),
        (psycopg.errors.InsufficientPrivilege("no"), ExitCode.REFUSED, "another user"),
        (psycopg.errors.UniqueViolation("twice"), ExitCode.REFUSED, "twice"),
    ],
)
def test_an_error_of_the_database_has_its_next_step(
    error: psycopg.Error, code: ExitCode, text: str
) -> None:
    message, exit_code = describe_database_error(error)
    assert exit_code == code
    assert text in message
