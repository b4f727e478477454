"""The command line `forebay`: every command, and how each of them ends."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from functools import cache

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
    replay,
    status,
    sweep,
    verify,
)
from ops.console import visible
from ops.errors import OpsError
from ops.exit_codes import ExitCode

app = typer.Typer(
    name="forebay",
    help="Operate a Forebay: replay, rebuild and verify its tables from the archive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def forebay() -> None:
    """Operate a Forebay: replay, rebuild and verify its tables from the archive."""


app.command()(adopt.adopt)
app.command()(archive.archive)
app.command()(replay.replay)
app.command()(rebuild.rebuild)
app.command()(verify.verify)
app.command()(history.history)
app.command()(outdate.outdate)
app.command()(status.status)
app.command()(sweep.sweep)
app.command()(cost.cost)
app.add_typer(dlq.app, name="dlq")
app.add_typer(rejections.app, name="rejections")


def main() -> None:
    """Runs the command that the process was called with, and ends with its exit code."""
    collect_seldom()
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code, having said in a sentence why it isn't 0."""
    try:
        code = _build_command()(args=arguments, prog_name="forebay", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as exc:
        # A defect of ours too must not throw a traceback at an operator at three in the morning.
        if os.environ.get("FOREBAY_DEBUG"):
            raise
        said, exit_code = _ending(exc)
        sys.stderr.write(f"forebay: {visible(said)}\n")
        return exit_code
    return code if isinstance(code, int) else ExitCode.OK


@cache
def _build_command() -> Callable[..., object]:
    """The commands as Typer makes them from the signatures, which takes a quarter of a second."""
    return typer.main.get_command(app)


def _ending(error: BaseException) -> tuple[str, ExitCode]:  # noqa: PLR0911 - a table
    """What to say about an error, and the exit code."""
    said = " ".join(str(error).split()) or type(error).__name__
    match error:
        case OpsError():
            return said, error.exit_code
        case TyperException():
            return f"{error.format_message()} See forebay --help.".strip(), ExitCode.USAGE
        case SettingsError() | NoRegionError() | NoCredentialsError() | ProfileNotFound():
            return said, ExitCode.USAGE
        case BotoCoreError() | ClientError():
            return f"AWS: {said}; try again", ExitCode.UNAVAILABLE
        case KeyboardInterrupt() | typer.Abort():
            return "stopped", ExitCode.STOPPED
        case TransientError():
            return f"{said}; try again", ExitCode.UNAVAILABLE
        case psycopg.OperationalError():
            return f"the database: {said}; try again", ExitCode.UNAVAILABLE
        case psycopg.Error():
            return f"the database: {said}", ExitCode.REFUSED
        case ForebayError():
            return said, ExitCode.REFUSED
        case _:
            where = _kept_traceback()
            kind = type(error).__name__
            return f"{said} ({kind}): a defect of forebay; traceback in {where}", ExitCode.DEFECT


def _kept_traceback() -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix="forebay-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exc(file=file)
        return file.name
