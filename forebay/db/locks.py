"""The advisory locks of resources, which order deletes and decisions against all other changes."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet

from forebay.db.connect import Connection

_LOCK_CLASS = 0x46424159  # "FBAY": the first key of the advisory locks of resources


def lock_resources(connection: Connection, paths: Iterable[str], *, exclusive: bool) -> None:
    """Take the resources' locks until the transaction ends, in the same order everywhere.

    Chunks of puts and creates share a lock. Chunks with deletes need it exclusively: a delete of a
    key without a row meets no lock of a row that another transaction is about to insert. Chunks
    with edited keys need it exclusively, because the state of a key is read before it is written.
    Decisions need it exclusively too, so that no other transaction applies the command at the same
    time.
    """
    function = "pg_advisory_xact_lock" if exclusive else "pg_advisory_xact_lock_shared"
    for lock in sorted({_hash_path(path) for path in paths}):
        connection.execute(f"SELECT {function}(%s, %s)", [_LOCK_CLASS, lock])


def lock_for_chunk(
    connection: Connection, paths: Collection[str], exclusive_paths: AbstractSet[str]
) -> None:
    """Take the locks of a chunk: exclusively for the resources in `exclusive_paths`."""
    for path in sorted(paths, key=_hash_path):
        lock_resources(connection, [path], exclusive=path in exclusive_paths)


def _hash_path(path: str) -> int:
    return zlib.crc32(path.encode()) - 2**31
