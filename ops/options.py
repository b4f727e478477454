"""The options that many commands share, declared once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from ops.errors import UsageError

Env = Annotated[
    str | None,
    typer.Option(
        "--env",
        envvar="FOREBAY_OPS_ENV",
        help="A deployed environment; `local` is the one-machine stack of this checkout.",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", help="The primary. [env var: FOREBAY_DATABASE_URL]"),
]
ReplicaUrl = Annotated[
    str | None, typer.Option("--replica-url", help="A replica. [env var: FOREBAY_REPLICA_URL]")
]
SourceUrl = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="The archive: s3://bucket, or file:///folder. [env var: FOREBAY_ARCHIVE_BUCKET]",
    ),
]
Scratch = Annotated[
    Path | None,
    typer.Option("--scratch", help="Folder for temporary files as large as the inflated archive."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


def uuid(text: str, option: str) -> str:
    """A UUID in its canonical form.

    Raises:
        UsageError: it is none.
    """
    try:
        return str(UUID(text))
    except ValueError:
        raise UsageError(f"{option} {text!r} is no UUID") from None


def moment(text: str, option: str) -> dt.datetime:
    """A point in time as operators write it, `now` included; without a zone it is UTC.

    Raises:
        UsageError: it is none.
    """
    if text == "now":
        return dt.datetime.now(dt.UTC)
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} {text!r} is no time; write it like 2026-11-21T04:29 or "
            "2026-11-21T04:29:12+01:00 (UTC unless it says otherwise), or `now`"
        ) from None
    return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)
