"""`forebay outdate`: marks rows that the next replay is to write again."""

from __future__ import annotations

from typing import Annotated

import typer

from ops import options
from ops.console import Console
from ops.context import DATABASE, Context
from ops.errors import UsageError
from ops.replay.outdate import count_rows
from ops.replay.outdate import outdate as mark


def outdate(
    resource: Annotated[str, typer.Argument(help="The resource's path, such as cities.")],
    *,
    since: Annotated[
        str, typer.Option("--from", help="Rows of commands accepted at this time or later (UTC).")
    ],
    until: Annotated[
        str, typer.Option("--to", help="Rows of commands accepted before this time (UTC).")
    ],
    key: Annotated[str | None, typer.Option(help="Only the row of this key.")] = None,
    orphaned: Annotated[
        bool,
        typer.Option(
            "--orphaned",
            help="The rows' commands were removed from the archive: the rows lose to every "
            "command of their keys.",
        ),
    ] = False,
    database_url: options.DatabaseUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Mark rows that a defect wrote with wrong values: the next replay writes them again."""
    context = Context({DATABASE: database_url}, env)
    spec = context.resources.get(resource)
    if spec is None:
        known = ", ".join(sorted(context.resources))
        raise UsageError(f"there is no resource {resource!r}; there are {known}")
    try:
        wanted = None if key is None else spec.body.read_key(key)
    except ValueError as exc:
        raise UsageError(f"{key!r} is no key of {resource}: {exc}") from None
    first, last = options.moment(since, "--from"), options.moment(until, "--to")
    console = Console(as_json=as_json, databases=context.databases, strays=context.strays)
    with context.connect(purpose="outdate") as connection:
        total = count_rows(connection, spec, first, last, wanted, orphaned=orphaned)
        console.confirm(
            f"Mark {total:,} rows of {resource}? They stay readable, and the next "
            "`forebay replay` of that time writes them again.",
            yes=yes,
        )
        marked = mark(connection, spec, first, last, wanted, orphaned=orphaned)
    console.result(
        {"resource": resource, "rows": marked},
        f"{marked:,} rows of {resource} are marked; now: forebay replay --resource {resource} "
        f"--from {first:%FT%T}Z --to {last:%FT%T}Z",
    )
