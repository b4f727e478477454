"""`forebay history`: every command of one key, and the row as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import psycopg
import typer

from forebay.command import KeyValue
from forebay.resource.spec import ResourceSpec
from ops import options
from ops.archive.invalid import LineFault, describe
from ops.archive.listing import list_commands
from ops.archive.missing import find_missing
from ops.archive.store import StoredObject
from ops.console import Console, pairs, short, table
from ops.context import ARCHIVE, DATABASE, REPLICA, Context
from ops.errors import IncompleteError, UsageError
from ops.history import reading
from ops.history.reading import Asked, AsOf, Entry


def history(
    resource: Annotated[str, typer.Argument(help="The resource's path, such as cities.")],
    key: Annotated[str, typer.Argument(help="The key, as in the item's address.")],
    *,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Print the row as it was at this time (UTC).")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Look from this time on; else at all.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Look before this time.")] = None,
    bodies: Annotated[bool, typer.Option("--bodies", help="Also what each one wrote.")] = False,
    database_url: options.DatabaseUrl = None,
    replica_url: options.ReplicaUrl = None,
    source: options.SourceUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """Show every command of a key: when, by whom, with what outcome; or the row as it was."""
    context = Context({DATABASE: database_url, REPLICA: replica_url, ARCHIVE: source}, env)
    spec = context.resources.get(resource)
    if spec is None:
        known = ", ".join(sorted(context.resources))
        raise UsageError(f"there is no resource {resource!r}; there are {known}")
    try:
        wanted = spec.body.read_key(key)
    except ValueError as exc:
        raise UsageError(f"{key!r} is no key of {resource}: {exc}") from None
    moment = options.moment(as_of, "--as-of") if as_of else None
    if moment and (since or until):
        raise UsageError("--as-of looks at all that was before; leave out --from and --to")
    first = options.moment(since, "--from") if since else None
    last = options.moment(until, "--to") if until else moment
    objects = list(list_commands(context.archive, since=first, until=last))
    console = Console(as_json=as_json, databases=context.databases, strays=context.strays)
    damaged: list[LineFault] = []
    entries, asked = _entries(context, console, spec, wanted, objects, damaged=damaged)
    with context.connect_for_reading(purpose="history") as connection:
        missing = find_missing(connection, context.archive, since=first, until=last)
    lacks = {**missing.facts(), "damaged": [one.facts() for one in damaged]}
    for text in describe(damaged):
        console.note(f"the rest can't be read of {text}")
    if moment is None:
        _tell(console, spec, wanted, entries, lacks, asked=asked, bodies=bodies)
    else:
        found = reading.as_of(entries, spec, moment)
        _tell_as_of(console, spec, wanted, found, lacks, asked=asked, moment=f"{moment:%F %T}Z")
    if missing:
        raise IncompleteError(missing.sentence)


def _entries(
    context: Context,
    console: Console,
    spec: ResourceSpec,
    key: KeyValue,
    objects: Sequence[StoredObject],
    *,
    damaged: list[LineFault],
) -> tuple[list[Entry], Asked]:
    with (
        context.connect_for_reading(purpose="history") as connection,
        console.progress("read", unit="objects", total=len(objects)) as meter,
    ):
        found = reading.commands_of(
            context.archive,
            objects,
            spec.path,
            key,
            on_object=lambda _: meter.advance(1),
            on_damage=damaged.append,
        )
        entries, asked = reading.with_outcomes(connection, spec, key, found)
    if asked.server == "primary" or not reading.needs_primary(entries):
        return entries, asked
    try:
        with context.connect(purpose="history") as primary:
            return reading.with_outcomes(primary, spec, key, found)
    except (UsageError, psycopg.OperationalError) as exc:
        reason = " ".join(str(exc).split())
        console.note(f"the primary can't be asked about what the replica does not show: {reason}")
        return entries, asked


def _tell(
    console: Console,
    spec: ResourceSpec,
    key: KeyValue,
    entries: Sequence[Entry],
    lacks: Mapping[str, Any],
    *,
    asked: Asked,
    bodies: bool,
) -> None:
    columns = ["accepted at", "op", "by", "outcome", "command", "amends", "object"]
    rows = [
        (
            f"{entry.accepted_at:%F %T.%f}"[:-3],
            entry.command.op,
            entry.command.by,
            entry.outcome + (f" ({short(entry.reason)})" if entry.reason else ""),
            entry.command.id,
            entry.command.amends,
            [name.rpartition("/")[2] for name in entry.objects],
            *((entry.command.body,) if bodies else ()),
        )
        for entry in entries
    ]
    if rows:
        console.show(asked.text)  # first: `history … | grep -q` ends at the row that it looks for
    console.result(
        {
            "resource": spec.path,
            "key": key,
            "asked": dataclasses.asdict(asked),
            "commands": [_json(entry) for entry in entries],
            **lacks,
        },
        table([*columns, *(("body",) if bodies else ())], rows)
        if rows
        else f"the archive has no command of {spec.path} {key}",
    )


def _tell_as_of(
    console: Console,
    spec: ResourceSpec,
    key: KeyValue,
    found: AsOf,
    lacks: Mapping[str, Any],
    *,
    asked: Asked,
    moment: str,
) -> None:
    value = {
        "resource": spec.path,
        "key": key,
        "as_of": moment,
        "asked": dataclasses.asdict(asked),
        "state": found.state,
        "version": found.version,
        "by": found.by,
        "row": found.row,
        "left_out": list(found.left_out),
        **lacks,
    }
    if found.left_out:
        console.note(
            f"{len(found.left_out)} commands were left out, for they are no valid items of "
            f"{spec.path}: {', '.join(found.left_out)}"
        )
    said = {
        "absent": f"{spec.path} {key} did not exist at {moment}",
        "deleted": f"{spec.path} {key} was deleted at {moment}, by {found.version} ({found.by})",
    }
    if found.row is None:
        console.result(value, said[found.state])
        return
    console.result(value, pairs({**found.row, "(version)": found.version, "(by)": found.by}))


def _json(entry: Entry) -> dict[str, Any]:
    command = entry.command
    return {
        "id": command.id,
        "accepted_at": entry.accepted_at,
        "op": command.op,
        "by": command.by,
        "trace": command.trace,
        "schema": command.schema,
        "outcome": entry.outcome,
        "reason": entry.reason,
        "amends": command.amends,
        "objects": list(entry.objects),
        "body": command.body,
    }
