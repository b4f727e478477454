"""Carries decisions out: claims the rejections, sends the new commands, writes the audit record.

A retry is claimed in the database together with the very line that will be sent. A call that dies
anywhere after that is finished by the next one, which sends the same line again: it has the same
id, so however often it arrives, it is one command.

The lines go straight to the archive, as objects of the hour of their ids. An object of the delivery
stream would be of the hour in which it is written, and a tool that looks for commands of a time
would not look there.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from forebay.aws.archive import Archive
from forebay.codec import decode
from forebay.db.connect import Connection
from forebay.errors import TransientError
from forebay.ids import IdSource, accepted_ms
from ops.rejections import audit, store
from ops.rejections.planning import Attempt
from ops.rejections.store import PAGE, Decision, Selection, Stored

_HOUR_MS = 3_600_000
_OBJECT_BYTES = 16 * 1024 * 1024  # of lines in an object: a page of long ones is cut


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a page of decisions."""

    #: They hold: written to the archive, noted in the database.
    recorded: int = 0
    #: Somebody else decided about these meanwhile.
    taken: int = 0
    #: Begun, but the archive did not take the command; the next call goes on.
    waiting: int = 0
    #: Why the archive did not take the last of these.
    error: str | None = None

    def __add__(self, other: Done) -> Done:
        """Both together."""
        return Done(
            self.recorded + other.recorded,
            self.taken + other.taken,
            self.waiting + other.waiting,
            other.error or self.error,
        )


class Decider:
    """Carries out the decisions of one call of the tool."""

    def __init__(
        self,
        connection: Connection,
        archive: Archive,
        *,
        by: str,
        ids: IdSource,
    ) -> None:
        """A decider.

        Args:
            connection: to the primary.
            archive: takes the new commands, and the audit record.
            by: the operator.
            ids: makes the id of this call.
        """
        self._connection = connection
        self._archive = archive
        self._by = by
        self.run = ids.make(create=False)
        self._pages = 0

    def retry(self, attempts: Sequence[Attempt], *, reason: str | None = None) -> Done:
        """Sends those that are ready; the others are left as they are.

        Raises:
            TransientError: the archive took the commands, but not the audit record; the next call
                writes it.
            psycopg.Error: the database is not there.
        """
        now = dt.datetime.now(dt.UTC)
        decisions = [
            Decision(
                rejection=attempt.stored.id,
                decision="retried",
                by=self._by,
                run=self.run,
                at=now,
                reason=reason,
                command=attempt.command,
                line=attempt.line,
                rule=attempt.rule,
            )
            for attempt in attempts
            if attempt.command is not None and attempt.verdict == "ready"
        ]
        return self._carry_out(decisions)

    def discard(self, page: Sequence[Stored], reason: str) -> Done:
        """Puts rejections aside for good; they stay rejected, and are no longer listed as open.

        Raises:
            TransientError, psycopg.Error: as `retry`.
        """
        now = dt.datetime.now(dt.UTC)
        return self._carry_out(
            [Decision(stored.id, "discarded", self._by, self.run, now, reason) for stored in page]
        )

    def resume(self, decision: store.Kind, selection: Selection) -> Done:
        """Finishes the decisions of one kind that earlier calls have begun and not finished.

        Args:
            decision: the kind.
            selection: of the rejections; its state does not count.

        Raises:
            TransientError, psycopg.Error: as `retry`.
        """
        begun = store.begun(self._connection, decision, selection)
        done = Done()
        for start in range(0, len(begun), PAGE):
            done += self._finish(begun[start : start + PAGE])
        return done

    def _carry_out(self, decisions: Sequence[Decision]) -> Done:
        claimed = store.claim(self._connection, decisions)
        ours = [decision for decision in decisions if decision.rejection in claimed]
        return self._finish(ours) + Done(taken=len(decisions) - len(ours))

    def _finish(self, decisions: Sequence[Decision]) -> Done:
        held = [decision for decision in decisions if decision.line is None]
        waiting, error = 0, None
        for group in _objects(decisions):
            try:
                self._archive.write_amendments([line for _, line in group], decode(group[0][1]).id)
            except TransientError as exc:
                waiting, error = waiting + len(group), str(exc)
            else:
                held += [decision for decision, _ in group]
        if held:
            self._pages += 1
            audit.write(self._archive, f"{self.run}-{self._pages:04d}", held)
            store.record(self._connection, [decision.rejection for decision in held])
        return Done(recorded=len(held), waiting=waiting, error=error)


def _objects(decisions: Sequence[Decision]) -> Iterator[list[tuple[Decision, bytes]]]:
    """Retries with their lines, by the object that they go to: each has ids of one hour."""
    ids = {
        decision.rejection: decode(decision.line).id
        for decision in decisions
        if decision.line is not None
    }
    retries = sorted(
        ((decision, decision.line) for decision in decisions if decision.line is not None),
        key=lambda retry: ids[retry[0].rejection],
    )
    for _, hour in groupby(
        retries, key=lambda retry: accepted_ms(ids[retry[0].rejection]) // _HOUR_MS
    ):
        group: list[tuple[Decision, bytes]] = []
        size = 0
        for decision, line in hour:
            if group and size + len(line) > _OBJECT_BYTES:
                yield group
                group, size = [], 0
            group.append((decision, line))
            size += len(line)
        yield group
