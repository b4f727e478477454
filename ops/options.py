"""Options that several commands share, and parsers of their values."""

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
    typer.Option("--database-url", help="The primary's address. [env var: FOREBAY_DATABASE_URL]"),
]
ReplicaUrl = Annotated[
    str | None,
    typer.Option("--replica-url", help="A replica's address. [env var: FOREBAY_REPLICA_URL]"),
]
SourceUrl = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="The archive: s3://bucket or file:///folder. [env var: FOREBAY_ARCHIVE_BUCKET]",
    ),
]
Scratch = Annotated[
    Path | None,
    typer.Option("--scratch", help="Folder for temporary files as large as the inflated archive."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", help="Confirm in advance.")]


def parse_uuid(text: str, option: str) -> str:
    """Return a UUID in its canonical form.

    Args:
        text: the value of the option.
        option: the option's name, for the message.

    Raises:
        UsageError: the text is not a UUID.
    """
    try:
        return str(UUID(text))
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a UUID") from None


def parse_range(
    since: str | None, until: str | None
) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Parse the times of --from and --to.

    Raises:
        UsageError: a text is not a time, or no time is in the range.
    """
    first = parse_moment(since, "--from") if since else None
    last = parse_moment(until, "--to") if until else None
    if first and last and first >= last:
        raise UsageError(f"--from {since} is not before --to {until}, so the range is empty")
    return first, last


def parse_past(text: str, option: str) -> dt.datetime:
    """Parse a time that must not be in the future, as `parse_moment`."""
    moment = parse_moment(text, option)
    if moment > dt.datetime.now(dt.UTC):
        raise UsageError(f"{option} {text} is in the future; use an earlier time, or now")
    return moment


def parse_moment(text: str, option: str) -> dt.datetime:
    """Parse a time in ISO 8601, or `now`; a time without a zone is UTC.

    Args:
        text: the value of the option.
        option: the option's name, for the message.

    Raises:
        UsageError: the text is not a time.
    """
    if text == "now":
        return dt.datetime.now(dt.UTC)
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} {text!r} is not a time; write it like 2026-11-21T04:29 or "
            "2026-11-21T04:29:12+01:00 (UTC without a zone), or `now`"
        ) from None
    return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
