"""The reader's side of the cache: finds answers, and stores new ones that are provably current."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from forebay.read_cache.link import CacheUnavailableError, Link
from forebay.read_cache.positions import Position
from forebay.read_cache.records import (
    ANSWER_SECONDS,
    GENERATION_SECONDS,
    Epoch,
    answer_key,
    build_epoch_key,
    build_generation_key,
    combine_tokens,
    find_floor,
    make_token,
)
from forebay.read_cache.scripts import BEGIN_EPOCH, OPEN_EPOCH, OPEN_GENERATIONS


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to store an answer under the generations seen before the database was asked."""

    run: str
    key: bytes
    tokens: bytes
    #: What the replica must show.
    needed: Position

    def is_proven_by(self, shown: Position) -> bool:
        """Return whether a replica that shows `shown` shows every change announced before."""
        same_history = shown.history == self.needed.history
        return same_history and shown.transaction > self.needed.transaction


class CacheReader:
    """Looks answers up and stores them."""

    def __init__(
        self,
        link: Link,
        read_current_position: Callable[[], Position],
        *,
        answer_seconds: int = ANSWER_SECONDS,
    ) -> None:
        """Create the reader.

        Args:
            link: the cache.
            read_current_position: of the primary; called once after the cache was emptied.
            answer_seconds: the lifetime of an answer.
        """
        self._link = link
        self._read_current_position = read_current_position
        self._answer_seconds = answer_seconds

    def find(self, request: bytes, names: Sequence[str]) -> bytes | Claim:
        """Return the valid answer to a request, or the claim to store one.

        Args:
            request: every part of the request that the answer depends on.
            names: of the generations with changes that may change the answer.

        Raises:
            CacheUnavailableError: the cache is to be skipped.
        """
        run, reply = self._link.call(
            lambda run: [
                "MGET",
                build_epoch_key(run),
                *(build_generation_key(run, name) for name in names),
                answer_key(run, request),
            ]
        )
        record, *generations, answer = cast("list[bytes | None]", reply)
        epoch = Epoch.parse(record)
        if epoch is None:
            self._open_epoch(run)
        if epoch is None or None in generations:
            epoch, records = self._open_generations(run, names)
        else:
            records = cast("list[bytes]", generations)
        tokens = combine_tokens(epoch, records)
        if answer is not None and answer.startswith(tokens):
            return answer[len(tokens) :]
        needed = Position(epoch.history, find_floor(epoch, records))
        return Claim(run, answer_key(run, request), tokens, needed)

    def store(self, claim: Claim, answer: bytes) -> None:
        """Store an answer; invalid at once if its generations have changed since the claim.

        Raises:
            CacheUnavailableError: the answer was not stored.
        """
        self._link.call(
            lambda _: ["SET", claim.key, claim.tokens + answer, "EX", self._answer_seconds],
            run=claim.run,
        )

    def _open_generations(self, run: str, names: Sequence[str]) -> tuple[Epoch, list[bytes]]:
        """Make the missing generations; return all of them."""
        keys = [build_generation_key(run, name) for name in names]
        _, reply = self._link.call(
            lambda run: [
                "EVAL",
                OPEN_GENERATIONS,
                1 + len(keys),
                build_epoch_key(run),
                *keys,
                GENERATION_SECONDS,
                *(make_token() for _ in keys),
            ],
            run=run,
        )
        records = cast("list[bytes]", reply)
        epoch = Epoch.parse(records[0]) if records else None
        if epoch is None:
            raise CacheUnavailableError("another reader is opening the epoch")
        return epoch, records[1:]

    def _open_epoch(self, run: str) -> None:
        """Open an epoch in an empty cache, with a transaction above all that have written yet.

        The order matters. A change that is announced before the first step began before the
        transaction of the second; one that is announced later leaves its transaction in the cache.
        """
        token = make_token()
        _, is_mine = self._link.call(
            lambda run: ["EVAL", BEGIN_EPOCH, 1, build_epoch_key(run), token], run=run
        )
        if not is_mine:
            return
        try:
            current = self._read_current_position()
        except CacheUnavailableError as exc:
            # Each attempt may take as long as a connection to a primary that is away.
            raise self._link.pause(exc) from exc
        self._link.call(
            lambda run: [
                "EVAL",
                OPEN_EPOCH,
                1,
                build_epoch_key(run),
                token,
                current.transaction,
                current.history,
            ],
            run=run,
        )
