"""The command line `forebay`: its commands, and their messages and exit codes on errors."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final

import psycopg
import typer
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
)
from typer.exceptions import TyperException

from forebay.collector import collect_seldom
from forebay.errors import ForebayError, SettingsError, TransientError
from ops.commands import (
    adopt,
    archive,
    cost,
    dlq,
    history,
    outdate,
    rebuild,
    rejections,
    remote,
    replay,
    revert,
    status,
    sweep,
    verify,
)
from ops.console import escape
from ops.errors import OpsError
from ops.exit_codes import ExitCode
from ops.failures import describe_aws_error, describe_database_error

app = typer.Typer(
    name="forebay",
    help="Operate Forebay: replay, rebuild and verify its tables from the archive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def forebay() -> None:
    """Operate Forebay: replay, rebuild and verify its tables from the archive."""


app.command()(adopt.adopt)
app.command()(archive.archive)
app.command()(replay.replay)
app.command()(rebuild.rebuild)
app.command()(verify.verify)
app.command()(history.history)
app.command()(outdate.outdate)
app.command()(revert.revert)
app.command()(status.status)
app.command()(sweep.sweep)
app.command()(cost.cost)
app.command(context_settings=remote.CONTEXT_SETTINGS)(remote.remote)
app.add_typer(dlq.app, name="dlq")
app.add_typer(rejections.app, name="rejections")


def main() -> None:
    """Run the command of the process's arguments, and exit with its code."""
    collect_seldom()
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; after an error, print its message on stderr.

    Args:
        arguments: the command's name and arguments; None for those of the process.
    """
    try:
        code = _build_command()(args=arguments, prog_name="forebay", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as exc:
        # A defect must not show the operator a traceback either; a file keeps it.
        if os.environ.get("FOREBAY_DEBUG"):
            raise
        message, exit_code = _describe_error(exc)
        sys.stderr.write(f"forebay: {escape(message)}\n")
        return exit_code
    return code if isinstance(code, int) else ExitCode.OK


@cache
def _build_command() -> Callable[..., object]:
    """Return the commands, which Typer makes from the signatures in a tenth of a second."""
    return typer.main.get_command(app)


_CREDENTIALS_STEP: Final = "; set AWS_PROFILE or log in (`aws sso login`)"
#: Follows the message of an error of boto3.
_NEXT_STEPS: Final[Mapping[type[BaseException], str]] = {
    NoCredentialsError: _CREDENTIALS_STEP,
    NoRegionError: " Set AWS_REGION to that of the environment.",
    ProfileNotFound: _CREDENTIALS_STEP,
}


def _describe_error(error: BaseException) -> tuple[str, ExitCode]:  # noqa: PLR0911 - a table
    """Return the message and the exit code for an error."""
    message = " ".join(str(error).split()) or type(error).__name__
    match error:
        case OpsError():
            return message, error.exit_code
        case TyperException():
            return f"{error.format_message()} See forebay --help.".strip(), ExitCode.USAGE
        case SettingsError() | NoRegionError() | NoCredentialsError() | ProfileNotFound():
            return message + _NEXT_STEPS.get(type(error), ""), ExitCode.USAGE
        case BotoCoreError() | ClientError():
            message, code = describe_aws_error(error)
            return f"AWS: {message}", code
        case KeyboardInterrupt() | typer.Abort():
            return "stopped", ExitCode.STOPPED
        case TransientError():
            return describe_aws_error(error)
        case psycopg.Error():
            return describe_database_error(error)
        case ForebayError():
            return message, ExitCode.REFUSED
        case _:
            file = _write_traceback()
            kind = type(error).__name__
            return f"{message} ({kind}): a defect of Forebay; traceback in {file}", ExitCode.DEFECT


def _write_traceback() -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix="forebay-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exc(file=file)
        return file.name
