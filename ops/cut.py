"""A cut through the archive: the commands up to a time, or up to a command."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from forebay.archive.layout import StoredObject
from forebay.ids import MAX_AHEAD_MS, accepted_ms, build_greatest_id, is_command_id
from ops.archive.listing import list_commands
from ops.archive.store import ObjectStore
from ops.errors import UsageError
from ops.options import parse_past

#: Greater than every command id.
EVERYTHING = "ffffffff-ffff-7fff-bfff-ffffffffffff"


def cut_of(text: str, option: str) -> str:
    """Return the greatest command id that a cut includes.

    Args:
        text: a time, or a command's id.
        option: the option's name, for the message.

    Raises:
        UsageError: the text is neither, or is of a time in the future.
    """
    if not is_command_id(text):
        return build_greatest_id(parse_past(text, option))
    # `If-Match` gives a command an id that is ahead of the clock.
    if accepted_ms(text) > dt.datetime.now(dt.UTC).timestamp() * 1000 + MAX_AHEAD_MS:
        raise UsageError(f"{option} {text} is in the future; use the id of an accepted command")
    return text


def get_cut_time(cut: str) -> dt.datetime | None:
    """Return the time of a cut; None if it includes all commands."""
    if cut == EVERYTHING:
        return None
    return dt.datetime.fromtimestamp(accepted_ms(cut) / 1000, dt.UTC)


def list_commands_until(store: ObjectStore, cut: str) -> Iterator[StoredObject]:
    """Yield the objects that may contain commands up to a cut, ordered by key."""
    time = get_cut_time(cut)
    return list_commands(store, until=time + dt.timedelta(milliseconds=1) if time else None)
