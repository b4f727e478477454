"""Finds damaged files in a copy of an archive, before a command applies any of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from forebay.archive.decisions import read_decision_log
from forebay.archive.layout import StoredObject
from forebay.archive.lines import InvalidLine, is_damaged, read_lines
from ops.archive.invalid import OF_OBJECTS, LineFault, describe
from ops.archive.store import ObjectStore
from ops.console import Console
from ops.errors import RefusedError


def refuse_damaged(
    console: Console, store: ObjectStore, objects: Iterable[StoredObject], *, empty_only: bool
) -> None:
    """Refuse a copy with damaged objects, and name all of them.

    Args:
        console: prints the names.
        store: the archive; objects in a bucket are complete, so they are not checked.
        objects: the objects that the command will read.
        empty_only: accept objects that can be read in part.

    Raises:
        RefusedError: objects are empty, cut off or not gzip, and the decision log has no
            rejection for them.
        TransientError: the store did not answer.
    """
    damaged = find_damaged(console, store, objects, empty_only=empty_only)
    if not damaged:
        return
    if console.as_json:
        console.result({"refused": {"invalid_lines": [line.facts() for line in damaged]}})
    else:
        for text in describe(damaged):
            console.note(text)
    count = len({line.object for line in damaged})
    raise RefusedError(
        f"{count:,} objects of {store.url} can't be read; the first is {damaged[0].object} "
        f"({damaged[0].detail}), and all are listed above. Nothing was changed. Copy them again. "
        "If an object is damaged in the bucket too, move it out of the copy, or use the bucket"
    )


def find_damaged(
    console: Console,
    store: ObjectStore,
    objects: Iterable[StoredObject],
    *,
    empty_only: bool = False,
) -> list[LineFault]:
    """Find the damaged objects of a copy, each with its first unreadable line.

    Damage that the decision log has rejected is in the original archive too, and is left out.

    Raises:
        TransientError: the store did not answer.
    """
    if not store.is_copy:
        return []
    archive_objects = list(objects)
    damaged: list[LineFault] = []
    with console.progress("check the copy", unit="objects", total=len(archive_objects)) as meter:
        for archive_object in archive_objects:
            if not archive_object.size_bytes:
                damaged.append(LineFault.of_empty(archive_object.key))
            elif not empty_only:
                damaged += _read_damage(store, archive_object.key)
            meter.advance(1)
    if damaged:
        rejected = {
            members["id"] for entry in read_decision_log(store) for members in entry.rejections
        }
        damaged = [line for line in damaged if line.id not in rejected]
    return damaged


def _read_damage(store: ObjectStore, key: str) -> Iterator[LineFault]:
    if not is_damaged(store.read(key)):
        return
    for _, entries in read_lines(store.read(key)):
        for entry in entries:
            if isinstance(entry, InvalidLine) and entry.code.startswith(OF_OBJECTS):
                yield LineFault.of(key, entry)
