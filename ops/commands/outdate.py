"""`forebay outdate`: mark rows, so that the next replay writes them again."""

from __future__ import annotations

from typing import Annotated

import typer

from ops import options
from ops.commands.arguments import build_console, find_spec, parse_key
from ops.context import DATABASE, Context
from ops.replay.outdate import count_rows
from ops.replay.outdate import outdate as mark

_Orphaned = Annotated[
    bool,
    typer.Option(
        "--orphaned",
        help="For rows whose commands were removed from the archive: they lose to every command "
        "of their keys.",
    ),
]


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
    orphaned: _Orphaned = False,
    database_url: options.DatabaseUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Mark rows that a defect wrote with wrong values, so that a replay writes them again."""
    context = Context({DATABASE: database_url}, env)
    spec = find_spec(context, resource)
    key_value = None if key is None else parse_key(spec, key)
    first, last = options.parse_range(since, until)
    assert first and last  # noqa: S101, PT018 - both options are required
    console = build_console(context, as_json=as_json)
    with context.connect(purpose="outdate") as connection:
        total = count_rows(connection, spec, first, last, key_value, orphaned=orphaned)
        console.confirm(
            f"Mark {total:,} rows of {resource} as outdated? They stay readable, and the next "
            "`forebay replay` of that time range writes them again.",
            yes=yes,
        )
        marked = mark(connection, spec, first, last, key_value, orphaned=orphaned)
    console.result(
        {
            "resource": resource,
            "rows": marked.rows,
            "replay_from": marked.since,
            "replay_to": marked.until,
        },
        f"{marked.rows:,} rows of {resource} are marked; write them again with: forebay replay "
        f"--resource {resource} --from {marked.since:%FT%T}Z --to {marked.until:%FT%T}Z",
    )
