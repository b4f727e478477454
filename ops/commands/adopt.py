"""`forebay adopt`: make a database the owner of the archive."""

from __future__ import annotations

from typing import Annotated

import typer

from forebay.decisions.decision_log import DecisionLog
from ops import options
from ops.commands.arguments import build_console
from ops.context import ARCHIVE, DATABASE, Context


def adopt(
    *,
    source: options.SourceUrl = None,
    database_url: options.DatabaseUrl = None,
    show: Annotated[
        bool, typer.Option("--show", help="Only show the owner of the archive.")
    ] = False,
    yes: options.Yes = False,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """Make the database the owner of the archive: the only database that adds rejections to it.

    The deployed consumer's database becomes the owner automatically. This command is for a
    database that was the owner before and was replaced.
    """
    context = Context({ARCHIVE: source, DATABASE: database_url}, env)
    console = build_console(context, as_json=as_json)
    with context.connect(purpose="adopt") as connection:
        decision_log = DecisionLog(connection, context.archive, context.resources)
        if not show:
            console.confirm(
                f"Make this database the owner of {context.archive.url}? The current owner can "
                "then no longer reject commands.",
                yes=yes,
            )
            decision_log.adopt()
        state = decision_log.read_state()
    console.facts(
        {
            "archive": context.archive.url,
            "database": state.database,
            "owner": state.owner,
            "is_owner": state.is_owner,
            "log_position": state.position,
            "rows_undone": decision_log.undone_count,
        }
    )
