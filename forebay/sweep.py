"""The sweep: finds archive objects that are not applied, and enqueues them for the consumer.

S3's events are delivered at least once, "typically in seconds but can sometimes take a minute or
longer" (Amazon S3 User Guide, "Amazon S3 Event Notifications"). An event is still lost if
notifications were disabled, if the queue refused it, or if the message outlived the queue's
retention. The archive and the ledger together show which objects are missing.
"""

from __future__ import annotations

import datetime as dt
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol, TypeAlias

from forebay.archive.layout import COMMANDS_PREFIX, REPORT_SUFFIX
from forebay.aws.events import EventRefusedError, build_event, iterate_keys
from forebay.aws.queue import Queue
from forebay.db.connect import Connection

PAGE = 1000  # objects per query of the ledger; also the size of a page of S3's listing
DEAD_LETTERS_READ = 10_000
#: Imports or uploads that one scheduled sweep enqueues; the next sweep enqueues the others.
FILES_AT_ONCE = 10_000


#: Why an object is not applied, by archive, ledger and dead letters.
Reason: TypeAlias = Literal["young", "dead", "missed"]


class Stored(Protocol):
    """An object in a listing of the archive."""

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def modified(self) -> dt.datetime: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Survey:
    """Counts of the listed objects; the parts add up to `listed`."""

    listed: int = 0
    applied: int = 0
    #: Not applied, but so young that their events may still arrive.
    young: int = 0
    #: Not applied, and dead letters: they failed, and an operator must look at them.
    dead: int = 0
    #: Not applied, neither young nor dead letters. Their messages may still wait in the queue.
    missed: int = 0
    #: When the oldest missed object was stored.
    oldest: dt.datetime | None = None

    @property
    def as_counts(self) -> dict[str, int]:
        """The counts by name."""
        return {
            name: getattr(self, name) for name in ("listed", "applied", "young", "dead", "missed")
        }


@dataclass(frozen=True, slots=True)
class _Page:
    survey: Survey
    unapplied: list[tuple[Stored, Reason]]


class Sweep:
    """Compares objects with the ledger."""

    def __init__(
        self,
        connection: Connection,
        *,
        now: dt.datetime,
        grace: dt.timedelta | None,
        dead: frozenset[str] = frozenset(),
    ) -> None:
        """Create a sweep.

        Args:
            connection: to a database with the ledger; the primary's ledger is the newest.
            now: the time.
            grace: younger objects count as `young`; None for no minimum age.
            dead: keys of objects that are dead letters.
        """
        self._connection = connection
        self._born_before = now - grace if grace is not None else None
        self._dead = dead

    def survey(self, objects: Iterable[Stored]) -> Survey:
        """Count the objects; memory is bounded, whatever the archive's size."""
        total = Survey()
        for page in self._read_pages(objects):
            total = _add_surveys(total, page.survey)
        return total

    def missed(self, objects: Iterable[Stored]) -> Iterator[list[str]]:
        """The keys of missed objects, a page at a time."""
        for page in self._read_pages(objects):
            keys = [stored.key for stored, reason in page.unapplied if reason == "missed"]
            if keys:
                yield keys

    def unapplied(self, objects: Iterable[Stored]) -> Iterator[tuple[Stored, Reason]]:
        """The objects that are not applied, each with the reason."""
        for page in self._read_pages(objects):
            yield from page.unapplied

    def _read_pages(self, objects: Iterable[Stored]) -> Iterator[_Page]:
        iterator = iter(objects)
        while batch := list(islice(iterator, PAGE)):
            yield self._read_page(batch)

    def _read_page(self, batch: Sequence[Stored]) -> _Page:
        rows = self._connection.execute(_APPLIED, [[stored.key for stored in batch]]).fetchall()
        applied_keys = {row[0] for row in rows}
        unapplied = [
            (stored, self._find_reason(stored))
            for stored in batch
            if stored.key not in applied_keys
        ]
        counts = Counter(reason for _, reason in unapplied)
        survey = Survey(
            listed=len(batch),
            applied=len(applied_keys),
            young=counts["young"],
            dead=counts["dead"],
            missed=counts["missed"],
            oldest=min(
                (stored.modified for stored, reason in unapplied if reason == "missed"),
                default=None,
            ),
        )
        return _Page(survey, unapplied)

    def _find_reason(self, stored: Stored) -> Reason:
        if stored.key in self._dead:
            return "dead"
        limit = self._born_before
        return "young" if limit is not None and stored.modified > limit else "missed"


@dataclass(frozen=True, slots=True)
class FileSurvey:
    """Counts of files that functions read: those below `imports/`, and uploads of attachments."""

    listed: int = 0
    #: Not read, but so young that their events may still arrive.
    young: int = 0
    #: Not read, and dead letters: they failed, and an operator must look at them.
    dead: int = 0
    #: Not read, neither young nor dead letters. Their messages may still wait in the queue.
    missed: tuple[Stored, ...] = ()

    @property
    def oldest(self) -> dt.datetime | None:
        """When the oldest of the missed files was stored."""
        return min((file.modified for file in self.missed), default=None)

    def select_oldest(self) -> list[str]:
        """Return the keys of the missed files for one sweep, the oldest first.

        The listing is in the order of keys, and a bounded number of events keeps the sweep within
        its time-out.
        """
        oldest = heapq.nsmallest(FILES_AT_ONCE, self.missed, key=lambda file: file.modified)
        return [file.key for file in oldest]

    @property
    def as_counts(self) -> dict[str, int]:
        """The counts by name."""
        return {
            "listed": self.listed,
            "young": self.young,
            "dead": self.dead,
            "missed": len(self.missed),
        }


def survey_files(
    objects: Iterable[Stored],
    *,
    since: dt.datetime | None = None,
    born_before: dt.datetime | None = None,
    dead: frozenset[str] = frozenset(),
) -> FileSurvey:
    """Find the files that no function has read.

    A file to import has a report then, at least as new as the file's newest version. An upload is
    deleted then.

    Args:
        objects: files below one prefix; below `imports/`, reports among them.
        since: files that were stored earlier are ignored; None for no limit.
        born_before: younger files count as `young`; None for no minimum age.
        dead: keys of files that are dead letters.
    """
    files: list[Stored] = []
    reported: dict[str, dt.datetime] = {}
    for stored in objects:
        if stored.key.endswith(REPORT_SUFFIX):
            reported[stored.key.removesuffix(REPORT_SUFFIX)] = stored.modified
        elif not stored.key.endswith("/") and (since is None or stored.modified >= since):
            files.append(stored)
    unread = [
        file for file in files if file.key not in reported or reported[file.key] < file.modified
    ]
    reasons = [_find_file_reason(file, born_before, dead) for file in unread]
    return FileSurvey(
        len(files),
        reasons.count("young"),
        reasons.count("dead"),
        tuple(file for file, reason in zip(unread, reasons, strict=True) if reason == "missed"),
    )


def _find_file_reason(
    file: Stored, born_before: dt.datetime | None, dead: frozenset[str]
) -> Reason:
    if file.key in dead:
        return "dead"
    return "young" if born_before is not None and file.modified > born_before else "missed"


def enqueue(queue: Queue, bucket: str, keys: Sequence[str]) -> None:
    """Send the consumer an event for each object, in S3's format.

    Raises:
        TransientError: the queue did not accept all events; sending them again is harmless.
    """
    queue.send([build_event(bucket, key) for key in keys])


def find_dead_objects(
    dead_letters: Queue, bucket: str, prefix: str = COMMANDS_PREFIX
) -> frozenset[str]:
    """The keys of the objects below the prefix that dead letters name.

    Raises:
        TransientError: the queue did not answer.
    """
    keys: set[str] = set()
    for message in dead_letters.peek(DEAD_LETTERS_READ):
        keys |= set(list_keys(message.body, bucket, prefix))
    return frozenset(keys)


def list_keys(body: str, bucket: str, prefix: str = COMMANDS_PREFIX) -> list[str]:
    """The archive objects that a message names; empty if it is not an event of this archive."""
    try:
        return list(iterate_keys(body, bucket=bucket, prefix=prefix))
    except EventRefusedError:
        return []


def is_explained_by_backlog(
    survey: Survey | FileSurvey, waiting: int, *, now: dt.datetime, patience: dt.timedelta
) -> bool:
    """Return whether the queue's backlog explains the missed objects: it holds at least as many.

    A queue that is always busy would hide a lost event for ever, so an object that is older than
    `patience` counts as missed, whatever the queue holds. Of many files, the queue holds those
    that one sweep enqueues.
    """
    missed = (
        survey.missed if isinstance(survey.missed, int) else min(len(survey.missed), FILES_AT_ONCE)
    )
    return survey.oldest is not None and missed <= waiting and now - survey.oldest < patience


_APPLIED = """
    SELECT object FROM forebay.ledger WHERE object = ANY(%s) AND completed_at IS NOT NULL
"""


def _add_surveys(left: Survey, right: Survey) -> Survey:
    times = [time for time in (left.oldest, right.oldest) if time is not None]
    return Survey(
        left.listed + right.listed,
        left.applied + right.applied,
        left.young + right.young,
        left.dead + right.dead,
        left.missed + right.missed,
        min(times, default=None),
    )
