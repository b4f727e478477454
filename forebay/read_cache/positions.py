"""Positions in the history of a database: they prove that a replica shows a transaction.

A position is the id of a transaction in one history. Ids of transactions are assigned in ascending
order. A replica shows every transaction up to `id` as soon as its oldest running transaction has a
greater id; if the transaction was rolled back, or its process died, the replica learns that too.
A position of the log, which is known only after the commit, would need a second message there.

A failover to another history (a timeline) may lose transactions and assign their ids again, and a
restored database begins a timeline of its own. So positions of two histories are not comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, LiteralString, Self


@dataclass(frozen=True, slots=True)
class Position:
    """A transaction in a history."""

    #: `<id of the database system>:<timeline>`.
    history: str
    #: The transaction's id, with its epoch: it never wraps around.
    transaction: int

    @classmethod
    def of_row(cls, row: tuple[object, ...]) -> Self:
        """Read the only row of one of the statements below."""
        history, transaction = row
        return cls(str(history), int(str(transaction)))


#: On the primary, in a transaction: its id, which is assigned now if it has none. Alone, it gives
#: an id above those of all transactions that have written yet.
CURRENT_POSITION: Final[LiteralString] = """
    SELECT s.system_identifier || ':' ||
             ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer,
           pg_current_xact_id()::text
    FROM pg_control_system() AS s
"""

#: True if the transaction has written: only then can its commit change an answer.
HAS_WRITTEN: Final[LiteralString] = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"

#: On a replica or the primary: the oldest transaction that this server does not show. Statements
#: that begin later on this server show all transactions below it. (`pg_visible_in_snapshot` knows
#: no running transactions on a replica.) A replica that changes its timeline reports the new one
#: only after its next restart point, and is no proof until then. Without FROM, Postgres plans
#: no joins: each miss of the cache runs it.
SHOWN_POSITION: Final[LiteralString] = """
    SELECT (pg_control_system()).system_identifier || ':' ||
             greatest((pg_control_checkpoint()).timeline_id,
                      (pg_control_recovery()).min_recovery_end_timeline),
           pg_snapshot_xmin(pg_current_snapshot())::text
"""
