"""`forebay history`: list the commands of one key, or print the row as it was at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import psycopg
import typer
from rich.table import Table

from forebay.archive.layout import StoredObject
from forebay.command import KeyValue
from forebay.resource.spec import ResourceSpec
from ops import options
from ops.archive.invalid import LineFault, describe
from ops.archive.listing import list_commands
from ops.archive.missing import find_missing
from ops.commands.arguments import build_console, find_spec, parse_key
from ops.console import Console, build_pairs_table, build_table, shorten
from ops.context import ARCHIVE, DATABASE, REPLICA, Context
from ops.errors import IncompleteError, UsageError
from ops.history import (
    AsOf,
    Entry,
    StatusSource,
    find_commands,
    find_state,
    needs_primary,
    read_statuses,
)

_AsOf = Annotated[
    str | None, typer.Option("--as-of", help="Print the row as it was at this time (UTC).")
]
_Since = Annotated[
    str | None,
    typer.Option("--from", help="Read the archive from this time on (default: all of it)."),
]
_Until = Annotated[str | None, typer.Option("--to", help="Read the archive up to this time.")]
_Bodies = Annotated[bool, typer.Option("--bodies", help="Also show the bodies of the commands.")]


def history(
    resource: Annotated[str, typer.Argument(help="The resource's path, such as cities.")],
    key: Annotated[str, typer.Argument(help="The key, as in the item's address.")],
    *,
    as_of: _AsOf = None,
    since: _Since = None,
    until: _Until = None,
    bodies: _Bodies = False,
    database_url: options.DatabaseUrl = None,
    replica_url: options.ReplicaUrl = None,
    source: options.SourceUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """Show every command of a key with its time, caller and status; or the row as it was."""
    context = Context({DATABASE: database_url, REPLICA: replica_url, ARCHIVE: source}, env)
    spec = find_spec(context, resource)
    key_value = parse_key(spec, key)
    moment = options.parse_past(as_of, "--as-of") if as_of else None
    if moment and (since or until):
        raise UsageError("--as-of uses all commands before its time; leave out --from and --to")
    first, last = options.parse_range(since, until)
    last = last or moment
    objects = list(list_commands(context.archive, since=first, until=last))
    console = build_console(context, as_json=as_json)
    damaged: list[LineFault] = []
    entries, status_source = _read_entries(
        context, console, spec, key_value, objects, damaged=damaged
    )
    with context.connect_for_reading(purpose="history") as connection:
        missing = find_missing(connection, context.archive, since=first, until=last)
    gaps = {**missing.facts(), "damaged": [fault.facts() for fault in damaged]}
    for text in describe(damaged):
        console.note(f"can't read the rest of {text}")
    if moment is None:
        _print_commands(
            console, spec, key_value, entries, gaps, status_source=status_source, bodies=bodies
        )
    else:
        state = find_state(entries, spec, moment)
        _print_state(
            console,
            spec,
            key_value,
            state,
            gaps,
            status_source=status_source,
            moment=f"{moment:%F %T}Z",
        )
    if missing:
        raise IncompleteError(missing.sentence)


def _read_entries(
    context: Context,
    console: Console,
    spec: ResourceSpec,
    key: KeyValue,
    objects: Sequence[StoredObject],
    *,
    damaged: list[LineFault],
) -> tuple[list[Entry], StatusSource]:
    with (
        context.connect_for_reading(purpose="history") as connection,
        console.progress("read", unit="objects", total=len(objects)) as meter,
    ):
        occurrences = find_commands(
            context.archive,
            objects,
            spec.path,
            key,
            on_object=lambda _: meter.advance(1),
            on_damage=damaged.append,
        )
        entries, status_source = read_statuses(connection, spec, key, occurrences)
    if status_source.server == "primary" or not needs_primary(entries):
        return entries, status_source
    try:
        with context.connect(purpose="history") as primary:
            return read_statuses(primary, spec, key, occurrences)
    except (UsageError, psycopg.OperationalError) as exc:
        reason = " ".join(str(exc).split())
        console.note(
            f"can't query the primary about commands that the replica does not show: {reason}"
        )
        return entries, status_source


def _print_commands(
    console: Console,
    spec: ResourceSpec,
    key: KeyValue,
    entries: Sequence[Entry],
    gaps: Mapping[str, Any],
    *,
    status_source: StatusSource,
    bodies: bool,
) -> None:
    if entries:
        console.show(
            status_source.text
        )  # first: `history … | grep -q` ends at the row that it looks for
    console.result(
        {
            "resource": spec.path,
            "key": key,
            "asked": dataclasses.asdict(status_source),
            "commands": [_describe_entry(entry) for entry in entries],
            **gaps,
        },
        _tabulate_entries(entries, bodies=bodies)
        if entries
        else f"the archive has no commands of {spec.path} {key}",
    )


def _tabulate_entries(entries: Sequence[Entry], *, bodies: bool) -> Table:
    """Return a row for each command; decisions and fields only if the key was edited."""
    columns = ["accepted at", "op", "by", "status", "command", "amends", "object"]
    is_edited = any(
        entry.command.op == "patch" or entry.command.condition is not None for entry in entries
    )
    columns += [*(("decision", "fields") if is_edited else ()), *(("body",) if bodies else ())]
    rows = [
        (
            f"{entry.accepted_at:%F %T.%f}"[:-3],
            entry.command.op,
            entry.command.by,
            entry.status + (f" ({shorten(entry.reason)})" if entry.reason else ""),
            entry.command.id,
            entry.command.amends,
            [name.rpartition("/")[2] for name in entry.objects],
            *((_describe_decision(entry), entry.fields) if is_edited else ()),
            *((entry.plain.body,) if bodies else ()),
        )
        for entry in entries
    ]
    return build_table(columns, rows)


def _print_state(
    console: Console,
    spec: ResourceSpec,
    key: KeyValue,
    state: AsOf,
    gaps: Mapping[str, Any],
    *,
    status_source: StatusSource,
    moment: str,
) -> None:
    value = {
        "resource": spec.path,
        "key": key,
        "as_of": moment,
        "asked": dataclasses.asdict(status_source),
        "state": state.state,
        "version": state.version,
        "by": state.by,
        "row": state.row,
        "fields": dict(state.fields),
        "waiting": list(state.waiting),
        "left_out": list(state.left_out),
        **gaps,
    }
    if state.left_out:
        console.note(
            f"{len(state.left_out)} commands were left out, because their bodies are not valid "
            f"items of {spec.path}: {', '.join(state.left_out)}"
        )
    if state.waiting:
        console.note(f"patches that waited for the item: {', '.join(state.waiting)}")
    if state.row is not None:
        console.result(value, _tabulate_row(state, state.row))
    elif state.state == "deleted":
        console.result(
            value, f"{spec.path} {key} was deleted at {moment}, by {state.version} ({state.by})"
        )
    else:
        console.result(value, f"{spec.path} {key} did not exist at {moment}")


def _tabulate_row(state: AsOf, row: Mapping[str, Any]) -> Table:
    """Return the values of a row, its version and caller, and the patches of its fields."""
    patches = {f"({name} from)": patch_id for name, patch_id in sorted(state.fields.items())}
    return build_pairs_table({**row, "(version)": state.version, "(by)": state.by, **patches})


def _describe_entry(entry: Entry) -> dict[str, Any]:
    command = entry.command
    return {
        "id": command.id,
        "accepted_at": entry.accepted_at,
        "op": command.op,
        "by": command.by,
        "trace": command.trace,
        "schema": command.schema,
        "outcome": entry.status,
        "reason": entry.reason,
        "amends": command.amends,
        "if": command.condition,
        "decision": _describe_effect(entry),
        "fields": None if entry.fields is None else list(entry.fields),
        "waits": entry.waits,
        "objects": list(entry.objects),
        "body": command.body,
    }


def _describe_effect(entry: Entry) -> dict[str, Any] | None:
    effect = entry.effect
    if effect is None:
        return None
    return {
        "effective_id": effect.effective_id,
        "body": effect.body,
        "decided_at": effect.decided_at,
    }


def _describe_decision(entry: Entry) -> str:
    effect = entry.effect
    if effect is None:
        return "undecided" if entry.is_undecided else ""
    if effect.effective_id == entry.command.id:
        return "passed"
    return f"passed as {effect.effective_id}"
