"""`forebay archive`: list the objects with the commands of a time range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from forebay.archive.layout import StoredObject
from ops import options
from ops.archive.layout import describe_lack
from ops.archive.listing import list_commands
from ops.console import Console, build_table
from ops.context import ARCHIVE, Context


def archive(
    *,
    since: Annotated[
        str | None, typer.Option("--from", help="Commands accepted at this time or later (UTC).")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Commands accepted before this time (UTC).")
    ] = None,
    source: options.SourceUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """List the archive objects that may contain commands accepted in a time range."""
    context = Context({ARCHIVE: source}, env)
    start, end = options.parse_range(since, until)
    objects = list(list_commands(context.archive, since=start, until=end))
    Console(as_json=as_json, strays=context.strays).result(
        {
            "archive": context.archive.url,
            "objects": [
                {
                    "key": archive_object.key,
                    "bytes": archive_object.size_bytes,
                    "modified": archive_object.modified,
                    "storage_class": archive_object.storage_class,
                }
                for archive_object in objects
            ],
        },
        _tabulate(objects)
        if objects
        else describe_lack(context.archive) or "no object can contain commands of that time range",
    )


def _tabulate(objects: Sequence[StoredObject]) -> Table:
    return build_table(
        ["object", "bytes", "modified", "class"],
        [
            (
                archive_object.key,
                archive_object.size_bytes,
                f"{archive_object.modified:%F %T}",
                archive_object.storage_class,
            )
            for archive_object in objects
        ],
    )
