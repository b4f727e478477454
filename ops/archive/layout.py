"""Checks that a source has the layout of an archive, before a command reads it.

If the source is a folder one level too deep or too high, its listing contains no objects of
commands. Without this check, a rebuild would create empty tables, and a verify would find no
differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from forebay.archive.layout import COMMANDS_PREFIX
from ops.archive.store import ObjectStore
from ops.errors import UsageError

#: Top folders of an archive. A source with only these is an archive, even without commands yet.
TOP_FOLDERS: Final = frozenset(
    {"audit", "commands", "decisions", "delivery-errors", "imports", "rejections"}
)
_COMMANDS: Final = COMMANDS_PREFIX.rstrip("/")
_FILE: Final = "file://"
_SHOWN = 5
_AFTER_ALL: Final = "\U0010ffff"


def check_layout(store: ObjectStore) -> None:
    """Accept an archive with commands, and an archive that has no commands yet.

    Raises:
        UsageError: the source is not an archive; the message names the source's contents, and the
            archive if it is one level up or down.
        TransientError: the store did not answer.
    """
    if has_commands(store):
        return
    names = list(islice(_list_top_names(store), _SHOWN))
    nearby = _find_nearby(store, names)
    if nearby is None and all(name.rstrip("/") in TOP_FOLDERS for name in names):
        return
    contents = f"it contains {', '.join(names)}" if names else "it contains no objects"
    advice = f"`{COMMANDS_PREFIX}` is in {nearby}" if nearby else "name the folder that contains it"
    raise UsageError(
        f"{store.url} is not an archive: it has no `{COMMANDS_PREFIX}` at its top; {contents}; "
        f"{advice}"
    )


def has_commands(store: ObjectStore) -> bool:
    """Return whether the archive has an object of commands.

    Raises:
        TransientError: the store did not answer.
    """
    return next(store.list(COMMANDS_PREFIX), None) is not None


def describe_lack(store: ObjectStore) -> str | None:
    """Return the reason why the archive has no commands to read; None if it has commands.

    Raises:
        TransientError: the store did not answer.
    """
    if has_commands(store):
        return None
    is_empty = next(store.list(""), None) is None
    lack = "is empty: it has no objects" if is_empty else "has no commands yet"
    others = f" ({len(store.strays):,} files {store.strays})" if store.strays else ""
    return f"{store.url} {lack}{others}"


def _list_top_names(store: ObjectStore) -> Iterator[str]:
    """Yield the names at the top of the source; folders end with a slash."""
    after = ""
    while (stored := next(store.list("", after=after), None)) is not None:
        name, slash, _ = stored.key.partition("/")
        yield name + slash
        after = f"{name}/{_AFTER_ALL}" if slash else name


def _find_nearby(store: ObjectStore, names: list[str]) -> str | None:
    """Return the URL of an archive one level below the source, or in a folder that contains it."""
    for name in names:
        below = f"{name}{COMMANDS_PREFIX}"
        if name.endswith("/") and next(store.list(below), None) is not None:
            return f"{store.url}/{name.rstrip('/')}"
    if not store.url.startswith(_FILE):
        return None
    folder = Path(store.url.removeprefix(_FILE)).absolute()
    for parent in folder.parents:
        below = folder.relative_to(parent).parts[0]
        if below in TOP_FOLDERS and (parent / _COMMANDS).is_dir():
            return f"{_FILE}{parent}"
    if folder.parent != folder and (folder.parent / _COMMANDS).is_dir():
        return f"{_FILE}{folder.parent}"
    return None
