"""How far the archive has been applied: its recent objects compared with the ledger."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from forebay.archive.layout import COMMANDS_PREFIX, StoredObject, format_hour, parse_hour
from forebay.aws.archive import Archive
from lambdas.about.database import HealthDatabase

#: An older object that is not applied is a dead letter, and an alarm reports it.
WINDOW = dt.timedelta(hours=24)
#: Objects of one call: twenty pages of a listing. Later calls continue after them.
MAX_OBJECTS = 20_000
#: Objects are listed by the hour of their oldest record, and may appear a little later.
_STRAGGLERS = dt.timedelta(hours=1)
#: How often the whole window is listed: an object may appear under any of its hours, as Firehose
#: delivers late after long failures.
WHOLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The result of a comparison of the archive with the ledger."""

    #: The oldest object that is not applied.
    oldest: StoredObject | None
    #: The number of objects that are not applied.
    unapplied: int
    #: The hour (UTC) from which objects are compared with the ledger.
    since: dt.datetime
    #: True if all of them were compared within the last `WHOLE_SECONDS`.
    complete: bool


class ArchiveProgress:
    """Compares the archive with the ledger; remembers how far all objects are applied.

    Most calls list the objects of the last hour or two. Once a minute the whole window is listed,
    in several calls if it has too many objects for one.
    """

    def __init__(
        self,
        archive: Archive,
        database: HealthDatabase,
        *,
        max_objects: int = MAX_OBJECTS,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._archive = archive
        self._database = database
        self._max_objects = max_objects
        self._now = now
        self._clock = clock
        #: The next listing begins after this key.
        self._after = ""
        #: When the whole window has to be listed again; None while that is in progress.
        self._whole_due: float | None = clock()

    def look(self) -> Progress:
        """Compare the next objects with the ledger.

        Raises:
            TransientError: the archive or the database does not answer.
        """
        window = format_hour(self._now() - WINDOW)
        if self._whole_due is not None and self._clock() >= self._whole_due:
            self._after, self._whole_due = window, None
        start = max(self._after, window)
        stored = list(islice(self._archive.list(COMMANDS_PREFIX, after=start), self._max_objects))
        complete = len(stored) < self._max_objects
        keys = self._database.find_unapplied([listed.key for listed in stored])
        unapplied = [listed for listed in stored if listed.key in keys]
        self._after = max(start, self._find_last_compared_key(stored, keys, complete=complete))
        if complete and self._whole_due is None:
            self._whole_due = self._clock() + WHOLE_SECONDS
        return Progress(
            oldest=min(unapplied, key=lambda listed: listed.modified, default=None),
            unapplied=len(unapplied),
            since=parse_hour(window),
            complete=complete,
        )

    def _find_last_compared_key(
        self, stored: Sequence[StoredObject], unapplied: set[str], *, complete: bool
    ) -> str:
        """The key up to which no object has to be compared again."""
        applied_items = takewhile(lambda listed: listed.key not in unapplied, stored)
        last_applied = max((listed.key for listed in applied_items), default="")
        newest = format_hour(self._now() - _STRAGGLERS)
        if not complete:
            return last_applied
        return newest if not unapplied else min(last_applied, newest)
