"""The one function that applies commands: for live objects, replays and tests alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import psycopg

from forebay.apply.ahead import ReadAhead
from forebay.apply.batch import ChunkApplier
from forebay.apply.habits import Habits
from forebay.apply.ledger import Ledger, OvertakenError
from forebay.apply.outcome import Entry, Outcome, Rejection, Source
from forebay.apply.prepare import Prepared, prepare
from forebay.db.connect import Connection
from forebay.db.faults import is_worth_an_instant_retry
from forebay.errors import HeldError
from forebay.resource.spec import ResourceSpec

ArchiveRejections: TypeAlias = Callable[[Sequence[Rejection]], None]

_INSTANT_RETRIES = 5
_RETRY_PAUSE_SECONDS = 0.1


def read_ahead(
    chunks: Iterable[Sequence[Entry]], resources: Mapping[str, ResourceSpec]
) -> ReadAhead:
    """Begins to read an object that `apply` gets when it is done with another.

    Args:
        chunks: the object's lines in their order; each chunk becomes one transaction, so it bounds
            memory and the time that locks are held.
        resources: the declarations, by path.
    """
    return ReadAhead(chunks, partial(prepare, resources=resources))


def apply(
    connection: Connection,
    chunks: Iterable[Sequence[Entry]] | ReadAhead,
    source: Source,
    *,
    resources: Mapping[str, ResourceSpec],
    archive_rejections: ArchiveRejections,
    admit: Callable[[int], None] = lambda _: None,
    habits: Habits | None = None,
) -> Outcome:
    """Applies one archive object, a transaction per chunk.

    The tables end as law 2 says, whatever the order, duplication or splitting of objects. A live
    object is taken up where an interrupted run left it; one that was applied whole is left alone.

    Args:
        connection: to the primary, autocommit, used by nobody else meanwhile.
        chunks: as `read_ahead` takes or gives them; closed in the end.
        source: the object's name, and whether this is a replay.
        resources: the declarations, by path.
        archive_rejections: called with a chunk's new rejections before they are committed; when
            it raises, the chunk is rolled back.
        admit: called with the number of a chunk's lines before its transaction begins; returns when
            it may.
        habits: what earlier objects were like, which makes this one faster; the caller's, who gives
            the same each time.

    Raises:
        HeldError: everything was applied but commands that need newer code; the ledger stays open.
        psycopg.Error: transient, or a schema that does not fit; the chunk was rolled back, and
            applying the object again is safe.
        ValueError: the connection is not autocommit.
    """
    ahead = chunks if isinstance(chunks, ReadAhead) else read_ahead(chunks, resources)
    with ahead:
        if not connection.autocommit:
            raise ValueError("apply needs an autocommit connection: each chunk commits by itself")
        applier = ChunkApplier(
            connection, source, resources, archive_rejections, habits or Habits()
        )
        run = _Run(connection, applier, Ledger(connection, source), resources)
        for chunk, is_last in ahead:
            admit(len(chunk.entries))
            if not run.take(chunk, is_last):
                return run.outcome if run.outcome.lines else Outcome(already_applied=True)
        run.finish()
    if run.outcome.held is not None:
        raise HeldError(f"{source.object}: {run.outcome.held}")
    return run.outcome


def rehearse(
    connection: Connection,
    chunks: Iterable[Sequence[Entry]],
    source: Source,
    *,
    resources: Mapping[str, ResourceSpec],
) -> Outcome:
    """What applying an object now would do; nothing is changed, nothing is archived.

    Every chunk is applied by the same code and rolled back, so each is counted as if it were the
    next one to be applied. Locks are taken and given back with each chunk.

    Raises:
        psycopg.Error: as `apply`.
    """
    applier = ChunkApplier(connection, source, resources, lambda _: None, Habits())
    outcome = Outcome()
    for entries in chunks:
        chunk = prepare(entries, resources)
        with connection.transaction(force_rollback=True):
            counts = applier.apply(chunk)
        outcome = outcome.plus(len(entries), chunk.ids, counts, held=chunk.held)
    return outcome


class _Run:
    """One object on its way into the tables."""

    def __init__(
        self,
        connection: Connection,
        applier: ChunkApplier,
        ledger: Ledger,
        resources: Mapping[str, ResourceSpec],
    ) -> None:
        self.outcome = Outcome()
        self._connection = connection
        self._applier = applier
        self._ledger = ledger
        self._resources = resources
        self._position = 0
        #: How many lines are applied; asked of the ledger in the transaction that needs to know.
        self._done: int | None = None
        self._is_complete = False

    def take(self, chunk: Prepared, is_last: Callable[[], bool]) -> bool:
        """Applies what is not applied of the next chunk; False if all of the object is.

        A deadlock is retried at once, for the connection is well.
        """
        attempt = 0
        while True:
            try:
                taken = self._take(chunk, is_last)
            except OvertakenError:  # another consumer has this object too and is ahead of us
                self._done = None
            except psycopg.Error as exc:
                attempt += 1
                if attempt > _INSTANT_RETRIES or not is_worth_an_instant_retry(exc):
                    raise
                time.sleep(random.uniform(0, _RETRY_PAUSE_SECONDS * 2**attempt))
            else:
                self._position += len(chunk.entries)
                return taken

    def finish(self) -> None:
        """Calls the object applied, if it was not known of the last chunk that it was the last."""
        if not self._is_complete and self.outcome.held is None:
            self.take(prepare((), self._resources), lambda: True)

    def _take(self, chunk: Prepared, is_last: Callable[[], bool]) -> bool:
        """One chunk, one transaction."""
        with self._connection.transaction():
            done = self._ledger.lines_done() if self._done is None else self._done
            if done is None:
                return False
            start = max(self._position, done)
            if start > self._position:
                chunk = prepare(chunk.entries[start - self._position :], self._resources)
            if not chunk.entries and not is_last():
                self._done = done
                return True
            lines = len(chunk.entries)
            counts = self._applier.apply(chunk)
            after = self.outcome.plus(lines, chunk.ids, counts, held=chunk.held)
            # Held commands keep the ledger where it is, so that the next try meets them again.
            is_complete = after.held is None and is_last()
            if after.held is None:
                self._ledger.advance(
                    start=start,
                    end=start + lines,
                    ids=chunk.ids,
                    counts=counts,
                    total=after,
                    is_last=is_complete,
                )
        # Only what was committed counts.
        self.outcome, self._done, self._is_complete = after, done, is_complete
        return True
