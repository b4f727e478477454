"""How far the archive has been applied: its recent objects compared with the ledger."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from forebay.aws.archive import Archive, StoredObject, commands_from
from lambdas.about.database import HealthDatabase

#: An object that was not applied for so long is a dead letter, and some alarm's matter.
WINDOW = dt.timedelta(hours=24)
#: Objects of one look: twenty pages of a listing. Where there are more, later looks go on.
MAX_OBJECTS = 20_000
#: Objects are listed by the hour of their oldest record, and may appear a little later.
_STRAGGLERS = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a look at the archive found."""

    #: The oldest object that is not applied.
    oldest: StoredObject | None
    #: How many are not.
    unapplied: int
    #: The hour (UTC) from which objects were looked at.
    since: dt.datetime
    #: Whether all from there on were looked at.
    complete: bool


class ArchiveProgress:
    """Looks at the archive; remembers up to which hour everything has been applied.

    So a look lists the objects of the last hour or two, and only the first one, or one after a
    standstill, those of the whole window. Objects that appear under an hour that is done (Firehose
    delivers late after long trouble) are for the next function instance to find.
    """

    def __init__(
        self,
        archive: Archive,
        database: HealthDatabase,
        *,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._archive = archive
        self._database = database
        self._now = now
        self._done_until: dt.datetime | None = None

    def look(self) -> Progress:
        """What is not applied yet.

        Raises:
            TransientError: the archive or the database does not answer.
        """
        since = _hour(self._now() - WINDOW)
        if self._done_until is not None:
            since = max(since, self._done_until)
        listed = self._archive.list_commands(commands_from(since))
        stored = list(islice(listed, MAX_OBJECTS))
        complete = len(stored) < MAX_OBJECTS
        keys = self._database.unapplied([found.key for found in stored])
        unapplied = [found for found in stored if found.key in keys]
        oldest = min(unapplied, key=lambda found: found.stored_at, default=None)
        self._done_until = self._settled(stored, unapplied) or since
        return Progress(oldest, len(unapplied), since, complete)

    def _settled(
        self, stored: list[StoredObject], unapplied: list[StoredObject]
    ) -> dt.datetime | None:
        """The hour before which nothing is left to be looked at again, as far as was looked."""
        if not stored:
            return _hour(self._now() - _STRAGGLERS)
        first_open = min(unapplied, key=lambda found: found.key) if unapplied else stored[-1]
        return min(_hour_of(first_open.key), _hour(self._now())) - _STRAGGLERS


def _hour(moment: dt.datetime) -> dt.datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _hour_of(key: str) -> dt.datetime:
    """The hour in a key: `commands/2026/11/21/09/…`."""
    return dt.datetime.strptime("/".join(key.split("/")[1:5]), "%Y/%m/%d/%H").replace(tzinfo=dt.UTC)
