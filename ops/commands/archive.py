"""`forebay archive`: which objects hold the commands of a time."""

from __future__ import annotations

from typing import Annotated

import typer

from ops import options
from ops.archive.layout import describe_lack
from ops.archive.listing import list_commands
from ops.console import Console, table
from ops.context import ARCHIVE, Context


def archive(
    *,
    since: Annotated[
        str | None, typer.Option("--from", help="Accepted at this time or later (UTC).")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Accepted before this time (UTC).")
    ] = None,
    source: options.SourceUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """List the archive objects that may hold commands accepted in a time."""
    context = Context({ARCHIVE: source}, env)
    found = list(
        list_commands(
            context.archive,
            since=options.moment(since, "--from") if since else None,
            until=options.moment(until, "--to") if until else None,
        )
    )
    rows = [
        (item.key, item.size_bytes, f"{item.modified:%F %T}", item.storage_class) for item in found
    ]
    Console(as_json=as_json, strays=context.strays).result(
        {
            "archive": context.archive.url,
            "objects": [
                {
                    "key": item.key,
                    "bytes": item.size_bytes,
                    "modified": item.modified,
                    "storage_class": item.storage_class,
                }
                for item in found
            ],
        },
        table(["object", "bytes", "modified", "class"], rows)
        if rows
        else describe_lack(context.archive) or "no object can hold commands of that time",
    )
