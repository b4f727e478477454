"""Carry out decisions: claim rejections, send amendments, write the audit record.

The database records a retry together with the line that will be sent. If the call is killed
afterwards, the next call sends the same line: its id is the same, so duplicates do no harm.

The lines are written to the archive directly, in objects named by the hour of their ids. Firehose
would name its object by the hour of writing, where a search by the commands' time does not look.
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
_OBJECT_BYTES = 16 * 1024 * 1024  # of lines in an object; a page of long lines is divided


@dataclass(frozen=True, slots=True)
class DecisionCounts:
    """The counts of decisions by their progress."""

    #: Written to the archive and recorded in the database.
    recorded: int = 0
    #: Left out, because another call had decided about the rejection in between.
    taken: int = 0
    #: Begun, but the archive did not accept the command; the next call continues.
    waiting: int = 0
    #: The last reason for which the archive did not accept a command.
    error: str | None = None

    def __add__(self, other: DecisionCounts) -> DecisionCounts:
        """Return the sum of both."""
        return DecisionCounts(
            self.recorded + other.recorded,
            self.taken + other.taken,
            self.waiting + other.waiting,
            other.error or self.error,
        )


class Decider:
    """Carries out the decisions of one call of the command line."""

    def __init__(
        self,
        connection: Connection,
        archive: Archive,
        *,
        by: str,
        ids: IdSource,
    ) -> None:
        """Create a decider.

        Args:
            connection: a connection to the primary.
            archive: receives the amendments and the audit record.
            by: the operator.
            ids: makes the id of this call.
        """
        self._connection = connection
        self._archive = archive
        self._by = by
        self.run = ids.make(create=False)
        self._pages = 0

    def retry(self, attempts: Sequence[Attempt], *, reason: str | None = None) -> DecisionCounts:
        """Send the attempts that are ready; skip the others.

        Raises:
            TransientError: the archive accepted the commands, but not the audit record; the next
                call writes it.
            psycopg.Error: the database failed.
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

    def discard(self, page: Sequence[Stored], reason: str) -> DecisionCounts:
        """Mark rejections as discarded; they stay rejected, and are no longer open.

        Raises:
            TransientError, psycopg.Error: as `retry`.
        """
        now = dt.datetime.now(dt.UTC)
        return self._carry_out(
            [Decision(stored.id, "discarded", self._by, self.run, now, reason) for stored in page]
        )

    def resume(self, decision: store.Kind, selection: Selection) -> DecisionCounts:
        """Finish the decisions of one kind that earlier calls have begun but not finished.

        Args:
            decision: the kind.
            selection: the rejections; its state is ignored.

        Raises:
            TransientError, psycopg.Error: as `retry`.
        """
        begun = store.list_begun(self._connection, decision, selection)
        counts = DecisionCounts()
        for start in range(0, len(begun), PAGE):
            counts += self._finish(begun[start : start + PAGE])
        return counts

    def _carry_out(self, decisions: Sequence[Decision]) -> DecisionCounts:
        claimed = store.claim(self._connection, decisions)
        own = [decision for decision in decisions if decision.rejection in claimed]
        return self._finish(own) + DecisionCounts(taken=len(decisions) - len(own))

    def _finish(self, decisions: Sequence[Decision]) -> DecisionCounts:
        finished = [decision for decision in decisions if decision.line is None]
        waiting, error = 0, None
        for group in _group_by_object(decisions):
            try:
                self._archive.write_amendments([line for _, line in group], decode(group[0][1]).id)
            except TransientError as exc:
                waiting, error = waiting + len(group), str(exc)
            else:
                finished += [decision for decision, _ in group]
        if finished:
            self._pages += 1
            audit.write(self._archive, f"{self.run}-{self._pages:04d}", finished)
            store.record(self._connection, [decision.rejection for decision in finished])
        return DecisionCounts(recorded=len(finished), waiting=waiting, error=error)


def _group_by_object(decisions: Sequence[Decision]) -> Iterator[list[tuple[Decision, bytes]]]:
    """Yield the retries of each new object, with their lines; an object has ids of one hour."""
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
