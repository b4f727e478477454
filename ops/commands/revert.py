"""`forebay revert`: undo commands by new commands that restore the states before them."""

from __future__ import annotations

import getpass
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.table import Table

from forebay.aws.archive import Archive
from forebay.command import KeyValue
from forebay.db.connect import Connection
from forebay.decisions.effects import Effect, find_effects
from forebay.decisions.rejections import find_rejected
from forebay.ids import IdSource
from ops import options
from ops.archive.invalid import describe
from ops.archive.listing import list_commands
from ops.archive.missing import find_missing
from ops.archive.store import Bucket
from ops.commands import arguments
from ops.commands.arguments import build_console, check_resources
from ops.console import Console, build_table
from ops.context import ARCHIVE, DATABASE, Context
from ops.errors import IncompleteError, UsageError
from ops.revert import Planner, Step, count, send

#: The keys that a result names in its text; `--json` names all.
_SHOWN = 20
_PURPOSE = "revert"

_KeepLater = Annotated[
    bool,
    typer.Option(
        "--keep-later",
        help="Keep later changes: restore the states as if the commands had never been sent.",
    ),
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan, and send no command.")]
_Operator = Annotated[
    str | None,
    typer.Option("--operator", help="Your name, the caller of the new commands (default: login)."),
]


def revert(
    *,
    since: arguments.Since = None,
    until: arguments.Until = None,
    resource: arguments.Resources = None,
    key: arguments.Keys = None,
    by: arguments.Callers = None,
    id_file: arguments.IdFile = None,
    keep_later: _KeepLater = False,
    dry_run: _DryRun = False,
    operator: _Operator = None,
    database_url: options.DatabaseUrl = None,
    source: options.SourceUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Undo commands: send new commands that restore each key's state before them."""
    context = Context({DATABASE: database_url, ARCHIVE: source}, env)
    console = build_console(context, as_json=as_json)
    check_resources(context, resource or ())
    selection = arguments.select(
        since=since, until=until, resources=resource, keys=key, callers=by, id_file=id_file
    )
    if not selection.by and not selection.ids:
        raise UsageError("name the commands to undo: --by CALLER, or --id-file FILE")
    archive = None if dry_run else _open_archive(context)
    planner = Planner(context.archive, context.resources, selection, keep_later=keep_later)
    with context.connect(purpose=_PURPOSE) as connection:
        _read(context, console, connection, planner)
    steps = list(planner.plan())
    counts = {"undone": len(planner.ids), **count(steps)}
    todo = counts["put"] + counts["delete"]
    if archive is None or not todo:
        _print(console, steps, counts, sent=0)
        return
    if not as_json:
        console.show(_tabulate(steps))
    console.confirm(_build_question(counts), yes=yes)
    sent = 0
    name = f"operator:{operator or getpass.getuser()}"
    with console.progress("send", unit="commands", total=todo) as meter:
        for stored in send(archive, steps, context.resources, IdSource(), name):
            sent += stored
            meter.advance(stored)
    _print(console, steps, counts, sent=sent)


@dataclass(frozen=True, slots=True)
class _Decisions:
    """The decisions that a database has."""

    connection: Connection

    def find_rejected(self, ids: Sequence[str]) -> Collection[str]:
        """See `ops.revert.Decisions`."""
        return find_rejected(self.connection, ids)

    def find_effects(self, ids: Sequence[str]) -> Mapping[str, Effect]:
        """See `ops.revert.Decisions`."""
        return find_effects(self.connection, ids)


def _open_archive(context: Context) -> Archive:
    bucket = context.archive
    if not isinstance(bucket, Bucket):
        raise UsageError(
            f"{bucket.url} is a copy of an archive, and commands are written to the archive's own "
            "bucket; give it with --source s3://bucket, or add --dry-run"
        )
    return Archive(context.s3, bucket.bucket)


def _read(context: Context, console: Console, connection: Connection, planner: Planner) -> None:
    """Read the archive twice: for the commands to undo, and for the states of their keys.

    Raises:
        IncompleteError: no command was selected, or a part of the archive is missing or unreadable,
            so that a state could be wrong.
    """
    selection = planner.selection
    decisions = _Decisions(connection)
    objects = list(list_commands(context.archive, since=selection.since, until=selection.until))
    with console.progress("find", unit="objects", total=len(objects)) as meter:
        planner.find(objects, decisions, lambda _: meter.advance(1))
    if not planner.ids:
        raise IncompleteError(
            f"no command in the {len(objects):,} objects of the selected period meets the "
            "conditions; a command appears in the archive after the buffer interval"
        )
    if lack := arguments.describe_lacking_ids(selection, planner.ids):
        raise IncompleteError(f"{lack}; nothing was sent")
    everything = list(list_commands(context.archive))
    with console.progress("fold", unit="objects", total=len(everything)) as meter:
        planner.fold(everything, decisions, lambda _: meter.advance(1))
    if planner.damaged:
        raise IncompleteError(
            "states would be wrong, because a part of the archive can't be read: "
            + "; ".join(describe(planner.damaged))
        )
    if planner.undecided:
        raise IncompleteError(
            f"{len(planner.undecided):,} of these commands have a condition or an increment and no "
            f"decision yet (the first is {min(planner.undecided)}): undone now, they could still "
            "take effect. Wait until they are applied"
        )
    missing = find_missing(connection, context.archive)
    if missing:
        raise IncompleteError(missing.sentence)


def _build_question(counts: Mapping[str, int]) -> str:
    lost = counts["losing_later_changes"]
    later = f", {lost:,} of which lose a later change of another caller" if lost else ""
    return (
        f"Undo {counts['undone']:,} commands by {counts['put']:,} puts and {counts['delete']:,} "
        f"deletes{later}?"
    )


def _print(
    console: Console, steps: Sequence[Step], counts: Mapping[str, int], *, sent: int
) -> None:
    facts: dict[str, Any] = {**counts, "sent": sent}
    keys = [
        {
            "resource": step.resource,
            "key": step.key,
            "verdict": step.verdict,
            "loses_change_of": step.loses_change_of,
            "reason": step.reason,
        }
        for step in steps
    ]
    if console.as_json:
        console.result({**facts, "keys": keys})
    else:
        if not sent:
            console.show(_tabulate(steps))
        console.facts(facts)
    if counts["impossible"]:
        raise IncompleteError(
            f"{counts['impossible']:,} keys can't be restored: their earlier items do not fit the "
            "current declaration; the plan has the reasons, so write these items yourself"
        )


def _tabulate(steps: Sequence[Step]) -> Table:
    changing = [step for step in steps if step.verdict != "unchanged"]
    rows: list[tuple[str, KeyValue, str, str]] = [
        (
            step.resource,
            step.key,
            step.verdict,
            step.reason
            or (f"loses a later change of {step.loses_change_of}" if step.loses_change_of else ""),
        )
        for step in changing[:_SHOWN]
    ]
    if len(changing) > _SHOWN:
        rows.append(("…", f"{len(changing) - _SHOWN:,} more", "", ""))
    return build_table(["resource", "key", "new command", "remark"], rows)
