"""Arguments and options that several commands share."""

from __future__ import annotations

import string
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from forebay.command import KeyValue
from forebay.ids import is_command_id
from forebay.replay.selection import Selection
from forebay.resource.spec import ResourceSpec
from forebay.text_files import read_text_file
from ops import options
from ops.console import Console, shorten
from ops.context import Context
from ops.errors import UsageError

#: Ids or lines that a message names.
_NAMED: Final = 5
_BLANKS: Final = string.whitespace + "\u00a0\ufeff"

# Conditions on archived commands.
Since = Annotated[
    str | None, typer.Option("--from", help="Commands accepted at this time or later (UTC).")
]
Until = Annotated[
    str | None, typer.Option("--to", help="Commands accepted before this time (UTC).")
]
Resources = Annotated[
    list[str] | None,
    typer.Option("--resource", help="Commands of this resource; may be repeated."),
]
Keys = Annotated[
    list[str] | None, typer.Option("--key", help="Commands of this key; may be repeated.")
]
Callers = Annotated[
    list[str] | None, typer.Option("--by", help="Commands of this caller; may be repeated.")
]
IdFile = Annotated[
    Path | None, typer.Option("--id-file", help="Commands with these ids, one per line.")
]

DeadLetterQueueUrl = Annotated[
    str | None,
    typer.Option(
        "--dead-letter-queue-url",
        help="The dead-letter queue. [env var: FOREBAY_DEAD_LETTER_QUEUE_URL]",
    ),
]
QueueUrl = Annotated[
    str | None,
    typer.Option("--queue-url", help="The consumer's queue. [env var: FOREBAY_QUEUE_URL]"),
]


def build_console(context: Context, *, as_json: bool) -> Console:
    """Return the console of a command: its results name the context's databases and strays."""
    return Console(as_json=as_json, databases=context.databases, strays=context.strays)


def check_resources(context: Context, paths: Iterable[str]) -> None:
    """Require that all paths are those of declared resources.

    Raises:
        UsageError: a path is not; names all such paths, and the declared resources.
    """
    unknown = sorted(set(paths) - set(context.resources))
    if unknown:
        names = ", ".join(sorted(context.resources))
        raise UsageError(f"there is no resource {', '.join(unknown)}; the resources are {names}")


def find_spec(context: Context, path: str) -> ResourceSpec:
    """Return the declaration of a resource.

    Raises:
        UsageError: the resource is not declared.
    """
    check_resources(context, [path])
    return context.resources[path]


def parse_key(spec: ResourceSpec, text: str) -> KeyValue:
    """Return the key that a text stands for, as in the item's address.

    Raises:
        UsageError: the text is not a key of the resource.
    """
    try:
        return spec.body.read_key(text)
    except ValueError as exc:
        raise UsageError(f"{text!r} is not a key of {spec.path}: {exc}") from None


def select(
    *,
    since: str | None,
    until: str | None,
    resources: Sequence[str] | None,
    keys: Sequence[str] | None,
    callers: Sequence[str] | None,
    id_file: Path | None,
) -> Selection:
    """Return the selection of the options that are conditions on archived commands.

    Raises:
        UsageError: an option has an invalid value.
    """
    first, last = options.parse_range(since, until)
    return Selection(
        since=first,
        until=last,
        resources=frozenset(resources or ()),
        keys=frozenset(keys or ()),
        by=frozenset(callers or ()),
        ids=_read_ids(id_file) if id_file else frozenset(),
    )


def describe_lacking_ids(selection: Selection, found_ids: Collection[str]) -> str | None:
    """Describe the selected ids of which the archive has no command.

    Returns:
        None if there are none, or if another condition may leave out commands with these ids.
    """
    if selection != Selection(ids=selection.ids):
        return None
    lacking = sorted(selection.ids.difference(found_ids))
    if not lacking:
        return None
    more = ", …" if len(lacking) > _NAMED else ""
    return (
        f"{len(lacking):,} of the {len(selection.ids):,} ids of --id-file are in no object of the "
        f"archive: {', '.join(lacking[:_NAMED])}{more}. A command appears in the archive after the "
        "buffer interval"
    )


def _read_ids(file: Path) -> frozenset[str]:
    """Read command ids, one per line; blank lines and spaces around an id are ignored.

    Raises:
        UsageError: the file contains no ids, or invalid lines; the message names their numbers.
    """
    # A file that was joined from several files may contain a byte order mark in its middle.
    lines = [line.strip(_BLANKS) for line in read_text_file(file).split("\n")]
    ids = {number: line.lower() for number, line in enumerate(lines, start=1) if line}
    invalid_numbers = [
        number for number, command_id in ids.items() if not is_command_id(command_id)
    ]
    if invalid_numbers:
        named = "; ".join(
            f"line {number:,}: {shorten(lines[number - 1])!r}"
            for number in invalid_numbers[:_NAMED]
        )
        rest = len(invalid_numbers) - _NAMED
        more = f"; and {rest:,} more lines" if rest > 0 else ""
        raise UsageError(f"--id-file {file} has lines that are not command ids: {named}{more}")
    if not ids:
        raise UsageError(f"--id-file {file} contains no ids")
    return frozenset(ids.values())
