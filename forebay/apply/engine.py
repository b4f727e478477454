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
        ledger = Ledger(connection, source)
        applier = ChunkApplier(connection, source, resources, archive_rejections)
        done = ledger.lines_done()
        outcome = Outcome()
        position = 0
        for chunk, is_last in ahead:
            while done is not None:
                start = max(position, done)
                rest = chunk
                if start > position:
                    rest = prepare(chunk.entries[start - position :], resources)
                try:
                    if rest.entries or is_last():
                        outcome = _apply_chunk(
                            connection, applier, ledger, outcome, rest, start=start, is_last=is_last
                        )
                    break
                except OvertakenError:  # another consumer has this object too and is ahead of us
                    done = ledger.lines_done()
            if done is None:
                return outcome if outcome.lines else Outcome(already_applied=True)
            position += len(chunk.entries)
    if outcome.held is not None:
        raise HeldError(f"{source.object}: {outcome.held}")
    return outcome


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
    applier = ChunkApplier(connection, source, resources, lambda _: None)
    outcome = Outcome()
    for entries in chunks:
        chunk = prepare(entries, resources)
        with connection.transaction(force_rollback=True):
            counts = applier.apply(chunk)
        outcome = outcome.plus(len(entries), chunk.ids, counts, held=chunk.held)
    return outcome


def _apply_chunk(
    connection: Connection,
    applier: ChunkApplier,
    ledger: Ledger,
    before: Outcome,
    chunk: Prepared,
    *,
    start: int,
    is_last: Callable[[], bool],
) -> Outcome:
    """One chunk, one transaction; deadlocks are retried at once, for the connection is well."""
    attempt, lines = 0, len(chunk.entries)
    while True:
        try:
            with connection.transaction():
                counts = applier.apply(chunk)
                after = before.plus(lines, chunk.ids, counts, held=chunk.held)
                # Held commands keep the ledger where it is, so that the next try meets them again.
                if after.held is None:
                    ledger.advance(
                        start=start,
                        end=start + lines,
                        ids=chunk.ids,
                        counts=counts,
                        total=after,
                        is_last=is_last(),
                    )
            return after  # noqa: TRY300 - after the commit, not inside the transaction
        except psycopg.Error as exc:
            attempt += 1
            if attempt > _INSTANT_RETRIES or not is_worth_an_instant_retry(exc):
                raise
            time.sleep(random.uniform(0, _RETRY_PAUSE_SECONDS * 2**attempt))
