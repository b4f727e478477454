"""Carries decisions out: claims the rejections, sends the new commands, writes the audit record.

A retry is claimed in the database together with the very line that will be sent. A call that dies
anywhere after that is finished by the next one, which sends the same line again: it has the same
id, so however often it arrives, it is one command.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from forebay.aws.archive import Archive
from forebay.codec import decode
from forebay.db.connect import Connection
from forebay.ids import IdSource
from forebay.intake.acceptance import Acceptor
from forebay.intake.commands import Line
from ops.rejections import audit, store
from ops.rejections.planning import Attempt
from ops.rejections.store import PAGE, Decision, Stored


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a page of decisions."""

    #: They hold: accepted by the pipeline, written to the archive, noted in the database.
    recorded: int = 0
    #: Somebody else decided about these meanwhile.
    taken: int = 0
    #: Begun, but neither the stream nor the archive took the command; the next call goes on.
    waiting: int = 0

    def __add__(self, other: Done) -> Done:
        """Both together."""
        return Done(
            self.recorded + other.recorded,
            self.taken + other.taken,
            self.waiting + other.waiting,
        )


class Decider:
    """Carries out the decisions of one call of the tool."""

    def __init__(
        self,
        connection: Connection,
        acceptor: Acceptor,
        archive: Archive,
        *,
        by: str,
        ids: IdSource,
    ) -> None:
        """A decider.

        Args:
            connection: to the primary.
            acceptor: takes the new commands, as it takes clients' writes.
            archive: where the audit record goes.
            by: the operator.
            ids: makes the id of this call.
        """
        self._connection = connection
        self._acceptor = acceptor
        self._archive = archive
        self._by = by
        self.run = ids.make(create=False)
        self._pages = 0

    def retry(self, attempts: Sequence[Attempt], *, reason: str | None = None) -> Done:
        """Sends those that are ready; the others are left as they are.

        Raises:
            TransientError: the commands were accepted, but the archive did not take the audit
                record; the next call writes it.
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

    def resume(self) -> Done:
        """Finishes what earlier calls have begun and not finished.

        Raises:
            TransientError, psycopg.Error: as `retry`.
        """
        left = store.unsent(self._connection)
        done = Done()
        for start in range(0, len(left), PAGE):
            done += self._finish(left[start : start + PAGE])
        return done

    def _carry_out(self, decisions: Sequence[Decision]) -> Done:
        claimed = store.claim(self._connection, decisions)
        ours = [decision for decision in decisions if decision.rejection in claimed]
        return self._finish(ours) + Done(taken=len(decisions) - len(ours))

    def _finish(self, decisions: Sequence[Decision]) -> Done:
        lines = [
            Line(decode(decision.line), decision.line)
            for decision in decisions
            if decision.line is not None
        ]
        refused = self._acceptor.accept(lines) if lines else set()
        not_accepted = {lines[index].command.amends for index in refused}
        held = [decision for decision in decisions if decision.rejection not in not_accepted]
        if held:
            self._pages += 1
            audit.write(self._archive, f"{self.run}-{self._pages:04d}", held)
            store.record(self._connection, [decision.rejection for decision in held])
        return Done(recorded=len(held), waiting=len(not_accepted))
