"""`forebay rebuild`: fill an empty database from the archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops import options
from ops.archive.damage import refuse_damaged
from ops.archive.layout import describe_lack
from ops.commands.arguments import build_console
from ops.console import Console
from ops.context import ARCHIVE, DATABASE, Context
from ops.cut import EVERYTHING, cut_of, list_commands_until
from ops.errors import IncompleteError, RefusedError
from ops.rebuild import rebuild as rebuilding
from ops.rebuild.refusals import NotRebuiltError

_Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="TIME|COMMAND_ID",
        help="Only commands accepted up to this time or command (default: all).",
    ),
]
_AllowNewRejections = Annotated[
    bool,
    typer.Option(
        "--allow-new-rejections",
        help="Reject commands that can't apply, as the live run does, instead of stopping.",
    ),
]
_Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=1,
        max=32,
        help="With --allow-new-rejections: number of connections to the primary.",
    ),
]
_Processes = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        max=64,
        help="Number of processes that read and fold (default: one per processor, at most 8).",
    ),
]


def rebuild(
    *,
    until: _Until = None,
    allow_new_rejections: _AllowNewRejections = False,
    workers: _Workers = 2,
    processes: _Processes = None,
    scratch: options.Scratch = None,
    source: options.SourceUrl = None,
    database_url: options.DatabaseUrl = None,
    yes: options.Yes = False,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """Create the schema in an empty database, and fill it from the archive."""
    context = Context({ARCHIVE: source, DATABASE: database_url}, env)
    console = build_console(context, as_json=as_json)
    cut = cut_of(until, "--until") if until else EVERYTHING
    if lack := describe_lack(context.archive):
        raise RefusedError(f"{lack}, so there is nothing to rebuild from; nothing was changed")
    archive_objects = list(list_commands_until(context.archive, cut))
    if allow_new_rejections:
        refuse_damaged(console, context.archive, archive_objects, empty_only=True)
    console.confirm(
        f"Rebuild an empty database from {len(archive_objects):,} objects of "
        f"{context.archive.url}?",
        yes=yes,
    )
    rebuilding.prepare(context)
    if allow_new_rejections:
        _replay_all(context, console, cut=cut, workers=workers)
    else:
        _rebuild(context, console, cut=cut, scratch=scratch, processes=processes)


def _replay_all(context: Context, console: Console, *, cut: str, workers: int) -> None:
    """Rebuild by a replay, which rejects commands that can't apply.

    Raises:
        IncompleteError: objects were not applied completely.
    """
    totals = rebuilding.rebuild_leniently(context, console, cut=cut, workers=workers)
    console.facts({"cut": cut, **totals.facts()})
    if totals.failed:
        raise IncompleteError(
            f"{totals.failed:,} objects were not applied completely; the causes are above"
        )


def _rebuild(
    context: Context, console: Console, *, cut: str, scratch: Path | None, processes: int | None
) -> None:
    """Rebuild in one transaction, which a command that can't apply stops.

    Raises:
        NotRebuiltError: a command can't apply and has no rejection; all such commands are printed.
        IncompleteError: the archive lacks objects that its decision log names.
    """
    try:
        result = rebuilding.rebuild(context, console, cut=cut, scratch=scratch, processes=processes)
    except NotRebuiltError as exc:
        exc.print_to(console)
        raise
    console.facts({"cut": cut, **result.facts()})
    if result.missing:
        raise IncompleteError(
            f"{context.archive.url} is incomplete: it lacks {len(result.missing):,} objects in "
            f"which commands were rejected (the first is {result.missing[0]}), and the tables lack "
            "their other commands. Copy these objects, then apply them with `forebay replay`"
        )
    if result.undecided and cut == EVERYTHING:
        raise IncompleteError(
            f"{result.undecided:,} commands with a condition or an increment have no decision yet; "
            "the tables lack them, and the ledger lacks their objects. `forebay sweep` sends these "
            "objects to the consumer, which decides; so does `forebay replay`"
        )
