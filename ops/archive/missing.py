"""Finds objects that the ledger has and an incomplete archive lacks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from forebay.db.connect import Connection
from forebay.ids import make_least_id
from ops.archive.listing import is_listed, list_commands
from ops.archive.store import ObjectStore
from ops.archive.strays import is_stray

_PAGE: Final = 5_000  # ledger rows
_NAMED: Final = 20
#: The number of missing objects that are looked up again, because an object may have been stored
#: and applied after it was listed.
_CONFIRMED: Final = 100


@dataclass(frozen=True, slots=True)
class Missing:
    """Objects that the ledger has and the archive lacks."""

    archive: str
    objects: int = 0
    #: The keys of the first missing objects.
    named: Sequence[str] = ()

    def __bool__(self) -> bool:
        return self.objects > 0

    @property
    def sentence(self) -> str:
        """The message for the operator: the archive's state and the next step."""
        shown = ", ".join(self.named[:3]) + (", …" if self.objects > 3 else "")  # noqa: PLR2004
        return (
            f"{self.archive} is incomplete: it lacks {self.objects:,} objects that the ledger "
            f"shows as applied ({shown}). A replay of it can't apply their commands. Copy them, or "
            "restore them in the bucket, and verify again. If an object was removed on purpose, "
            "delete its row in forebay.ledger"
        )

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result."""
        return {"objects_missing_in_archive": self.objects, "missing_in_archive": [*self.named]}


def find_missing(
    connection: Connection,
    store: ObjectStore,
    *,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
) -> Missing:
    """Compare the ledger with the archive's listing.

    Args:
        connection: to the database.
        store: the archive.
        since: only objects with commands accepted at this time or later; None for all.
        until: only objects with commands accepted before this time; None for all.

    Raises:
        TransientError: the store did not answer.
    """
    objects = 0
    named: list[str] = []
    for key in _list_unlisted(connection, store, since, until):
        if objects >= _CONFIRMED or not _is_stored(store, key):
            objects += 1
            named += [key] * (len(named) < _NAMED)
    return Missing(store.url, objects, named)


def _list_unlisted(
    connection: Connection,
    store: ObjectStore,
    since: dt.datetime | None,
    until: dt.datetime | None,
) -> Iterator[str]:
    """Yield the keys of ledger rows that are not in the listing; both have the same order."""
    times = {
        "since": None if since is None else make_least_id(since),
        "until": None if until is None else make_least_id(until),
    }
    archive_objects = list_commands(store, since=since, until=until)
    current = next(archive_objects, None)
    last = ""
    while page := connection.execute(_LEDGER, {**times, "last": last, "page": _PAGE}).fetchall():
        for (key,) in page:
            while current is not None and current.key < key:
                current = next(archive_objects, None)
            if current is not None and current.key == key:
                continue
            # The consumer applies a stray if S3 sends an event for it.
            if is_listed(key, since=since, until=until) and not is_stray(key, 1):
                yield key
        last = page[-1][0]


def _is_stored(store: ObjectStore, key: str) -> bool:
    return next((archive_object.key for archive_object in store.list(key)), None) == key


_LEDGER: Final = """
    SELECT object FROM forebay.ledger
    WHERE object COLLATE "C" > %(last)s
      AND (%(since)s::uuid IS NULL OR last_id >= %(since)s::uuid)
      AND (%(until)s::uuid IS NULL OR first_id < %(until)s::uuid)
    ORDER BY object COLLATE "C" LIMIT %(page)s
"""
