"""`forebay remote`: run a command in the network of an environment on AWS."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from ops.console import escape
from ops.context import LOCAL, Context
from ops.errors import StoppedError, UsageError
from ops.remote.request import encode_request
from ops.remote.runner import Runner

#: Stops the parsing of options at the command, which has options of its own.
CONTEXT_SETTINGS = {"allow_interspersed_args": False}

_Env = Annotated[
    str, typer.Option("--env", envvar="FOREBAY_OPS_ENV", help="A deployed environment on AWS.")
]
_Command = Annotated[
    list[str], typer.Argument(metavar="COMMAND", help="A command of forebay with its options.")
]


def remote(command: _Command, *, env: _Env) -> int:
    """Run a command in the environment's network; write its output, and end with its exit code.

    The command has no terminal: add --yes if it requires a confirmation. Ctrl-C stops it.
    """
    arguments = _list_arguments(command, env)
    context = Context()
    runner = Runner(context.client("codebuild"), context.client("logs"), f"forebay-{env}-runner")
    build_id = runner.start(encode_request(arguments))
    _write_error(f"started {build_id}; the first line arrives after about a minute")
    try:
        return runner.follow(build_id, _write, _write_error)
    except KeyboardInterrupt:
        runner.stop(build_id)
        raise StoppedError(f"stopped {build_id}; a replay can be resumed") from None


def _list_arguments(command: Sequence[str], env: str) -> list[str]:
    """Return the arguments without the name of the environment; the runner has its addresses.

    Raises:
        UsageError: the command can't run there.
    """
    if env == LOCAL:
        raise UsageError("--env local has no network of its own: run the command itself")
    if command[0] == "remote":
        raise UsageError("a remote command can't be `remote`")
    if command[0] == "cost":
        return list(command)  # its environment is a file
    arguments: list[str] = []
    rest = iter(command)
    for part in rest:
        if part != "--env" and not part.startswith("--env="):
            arguments.append(part)
            continue
        name = part.partition("=")[2] or next(rest, "")
        if name != env:
            raise UsageError(f"the runner of {env} has no addresses of {name!r}; leave --env out")
    return arguments


def _write(line: str) -> None:
    sys.stdout.write(f"{escape(line)}\n")
    sys.stdout.flush()


def _write_error(line: str) -> None:
    sys.stderr.write(f"{escape(line)}\n")
