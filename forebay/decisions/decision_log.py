"""Follows and extends the archive's decision log from a database.

A decision is made once (law 7): under the resource's exclusive lock, and written to the log before
the commit of the transaction in which it takes effect. The process may die between the write and
the commit. So a writer first commits a note that it is about to write (`pending`). A process that
finds the note of a dead writer reads the archive and takes over the entry. If there is no entry, it
fills the number with a void entry, so that a late write of the dead process can't appear there.

Only the database that owns the archive extends the log. Any other database keeps private
decisions, which only its own tables of rejections and effects contain.
"""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from forebay.archive.decisions import (
    NOTHING_READ,
    DecisionStore,
    LogEntry,
    build_entry_key,
    encode_decisions,
    encode_owner,
    encode_void,
    read_decision_log,
)
from forebay.db.connect import Connection
from forebay.decisions.effects import Effect, find_private_effects, insert_effects
from forebay.decisions.rejections import Rejection, insert_rejections
from forebay.decisions.undo import undo
from forebay.errors import PermanentError
from forebay.resource.spec import ResourceSpec

#: How a database may change the archive's owner. `follow`: never. `claim`: become the owner of an
#: archive without an owner, with its first decision. `adopt`: become the owner immediately, and
#: replace another owner; for the deployed consumer: its database is the archive's by definition.
Ownership = Literal["follow", "claim", "adopt"]

_LOCK_CLASS = 0x46424C47  # "FBLG": the first key of the advisory locks of the log
_LOG_LOCK = 0  # the second key; other numbers are writers' tokens
_BATCH = 1_000  # decisions taken over in one transaction


class PendingEntryError(Exception):
    """A writer of the log died before its commit: its entry must be taken over first."""


class LogMovedError(Exception):
    """The next number of the log is taken: the archive has entries that the database lacks."""


class NotOwnerError(PermanentError):
    """Another database owns the archive."""


@dataclass(frozen=True, slots=True)
class LogState:
    """How far a database has followed the log."""

    #: Identity of this database; None until it first needs an identity.
    database: str | None = None
    #: Entries up to here are in the database.
    position: int = NOTHING_READ
    #: The archive's owner, according to those entries.
    owner: str | None = None
    #: Token of a writer that may have written the entry after `position`.
    pending: int | None = None
    #: True if this database has ever owned the archive.
    was_owner: bool = False

    @property
    def is_owner(self) -> bool:
        """True if this database owns the archive."""
        return self.database is not None and self.owner == self.database


class Slot(Protocol):
    """The destination of the decisions of one transaction."""

    def mark_alive(self) -> None:
        """Take the lock that marks the writer as alive, until the transaction ends.

        Call it first inside the transaction in which the decisions take effect.
        """
        ...

    def record(self, rejections: Sequence[Rejection], effects: Sequence[Effect] = ()) -> None:
        """Write decisions to the archive, if this database owns it, and to the database.

        Call it last before the commit, inside the transaction in which the decisions take effect.

        Raises:
            LogMovedError: the archive has newer entries; roll back, `follow`, and decide again.
            TransientError: the archive did not answer; roll back.
        """
        ...


class DecisionLog:
    """The decision log, over a connection."""

    def __init__(
        self,
        connection: Connection,
        store: DecisionStore,
        resources: Mapping[str, ResourceSpec],
        *,
        ownership: Ownership = "follow",
        on_undo: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """Create a log without reading it; call `follow` before applying commands.

        Args:
            connection: to the primary, autocommit.
            store: the archive.
            resources: the declarations, by path.
            ownership: how the archive's owner may be changed.
            on_undo: called in a transaction that has undone commands.
        """
        self._connection = connection
        self._store = store
        self._resources = resources
        self._ownership = ownership
        self._on_undo = on_undo
        #: Rows and tombstones removed because the archive rejects their commands.
        self.undone_count = 0
        #: True in a rehearsal: it makes no change, so it ignores the note of a dead writer.
        self.is_rehearsal = False

    def follow(self) -> None:
        """Take over entries that the database lacks; become the archive's owner where permitted.

        Raises:
            DecisionLogError: an entry of the log is missing or damaged.
            TransientError: the archive did not answer.
        """
        state = self.read_state()
        adopts = self._ownership == "adopt" and not state.was_owner and not state.is_owner
        if state.pending is None and not adopts and state.position >= 0:
            new = read_decision_log(self._store, after=state.position)
            if next(new, None) is None:
                return
        with self._lock_log():
            self._catch_up_locked()
            if adopts:
                self._become_owner()

    def adopt(self) -> None:
        """Make this database the archive's owner, even if it was the owner before.

        Raises:
            DecisionLogError, TransientError: as `follow`.
        """
        with self._lock_log():
            self._catch_up_locked()
            self._become_owner()

    def read_state(self) -> LogState:
        """Return the position in the decision log, and the archive's owner at that position."""
        row = self._connection.execute(_GET_STATE).fetchone()
        return LogState() if row is None else LogState(*row)

    def may_extend(self) -> bool:
        """Return whether this database's decisions go to the archive, not only to the database."""
        state = self.read_state()
        return state.is_owner or (state.owner is None and self._ownership != "follow")

    def forget_private(self) -> None:
        """Delete the rejections that only this database has, so that they are made again.

        Such a database can't know the owner's decisions before they are in the archive. Its effects
        stay: the tables have them, so made again they would add an increment a second time.
        """
        if not self.may_extend():
            self._connection.execute("DELETE FROM forebay.rejections WHERE slot IS NULL")

    def catch_up(self) -> None:
        """Take over new entries, and prevent that an entry of a dead writer appears later."""
        with self._lock_log():
            self._catch_up_locked()

    def set_position(self, position: int, owner: str | None) -> None:
        """Record that the database has the decisions of all entries up to a position.

        Args:
            position: the number of the last entry.
            owner: the archive's owner, according to those entries.
        """
        self._connection.execute(_SET_POSITION, [position, owner])

    def has_rejected_between(self, first_id: str | None, last_id: str | None) -> bool:
        """Return whether any command between two ids was rejected; one query, in the transaction.

        Raises:
            PendingEntryError: roll back and `catch_up` first.
        """
        row = self._connection.execute(_FIND_REJECTED, [first_id, last_id]).fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM gives one row
        any_rejected, pending = row
        if pending is not None and not self.is_rehearsal and not self._is_alive(pending):
            raise PendingEntryError
        return bool(any_rejected)

    @contextmanager
    def reserve_slot(self) -> Iterator[Slot]:
        """Reserve the log's next number; enter it outside the transaction that will decide.

        Raises:
            NotOwnerError: the database has owned the archive, and another database does now.
            LogMovedError: another database has just become the owner; enter it again.
        """
        state = self.read_state()
        if self._keeps_decisions_private(state):
            yield _PrivateSlot(self._connection)
            return
        with self._lock_log():
            self._catch_up_locked()
            if self.read_state().owner is None:
                self._become_owner()
            state = self.read_state()
            if self._keeps_decisions_private(state):
                raise LogMovedError
            with self._reserve(state) as slot:
                yield slot

    @contextmanager
    def _reserve(self, state: LogState) -> Iterator[Slot]:
        token = 1 + secrets.randbelow(2**31 - 1)
        run = self._connection.execute
        run("UPDATE forebay.decision_log SET pending = %s", [token])
        slot = _ArchiveSlot(
            self._connection, self._store, str(state.database), state.position + 1, token
        )
        try:
            yield slot
        finally:
            if not self._connection.closed and not slot.may_be_stored:
                run("UPDATE forebay.decision_log SET pending = NULL")

    @contextmanager
    def _lock_log(self) -> Iterator[None]:
        """Hold the lock that lets one process at a time extend the log or take over from it."""
        # A client that vanishes without closing would keep the lock until TCP's time-out.
        self._connection.execute("SET idle_session_timeout = '60s'")
        self._connection.execute("SELECT pg_advisory_lock(%s, %s)", [_LOCK_CLASS, _LOG_LOCK])
        try:
            yield
        finally:
            if not self._connection.closed:
                self._connection.execute(
                    "SELECT pg_advisory_unlock(%s, %s)", [_LOCK_CLASS, _LOG_LOCK]
                )
                self._connection.execute("RESET idle_session_timeout")

    def _catch_up_locked(self) -> None:
        self._insert_new_entries()
        state = self.read_state()
        if state.pending is None:
            return
        # The writer is dead and its number is still free, but its write may be under way.
        now = dt.datetime.now(dt.UTC)
        if state.is_owner:
            self._store.create(
                build_entry_key(state.position + 1), encode_void(str(state.database), now)
            )
            self._insert_new_entries()
        self._connection.execute("UPDATE forebay.decision_log SET pending = NULL")

    def _insert_new_entries(self) -> None:
        batch: list[LogEntry] = []
        for entry in read_decision_log(self._store, after=self.read_state().position):
            batch.append(entry)
            if sum(len(each.rejections) + len(each.effects) for each in batch) >= _BATCH:
                self._insert_entries(batch)
                batch = []
        if batch:
            self._insert_entries(batch)

    def _insert_entries(self, entries: Sequence[LogEntry]) -> None:
        """Write entries into the database, and undo the commands that they reject."""
        with self._connection.transaction():
            rejected = [
                Rejection.from_archive(members) for entry in entries for members in entry.rejections
            ]
            effects = [
                Effect.from_archive(members) for entry in entries for members in entry.effects
            ]
            undone_count = undo(self._connection, self._resources, rejected, effects)
            self.undone_count += undone_count
            for entry in entries:
                effects_by_id = {members["id"]: members for members in entry.effects}
                insert_effects(
                    self._connection,
                    list(map(Effect.from_archive, effects_by_id.values())),
                    entry.slot,
                )
                members_by_id = {members["id"]: members for members in entry.rejections}
                rejections = list(map(Rejection.from_archive, members_by_id.values()))
                insert_rejections(self._connection, rejections, entry.slot)
            owner = next(
                (log_entry.owner for log_entry in reversed(entries) if log_entry.owner is not None),
                None,
            )
            self._connection.execute(_SET_POSITION, [entries[-1].slot, owner])
            if undone_count:
                self._on_undo(self._connection)

    def _keeps_decisions_private(self, state: LogState) -> bool:
        """Return whether only this database, not the archive, gets its decisions.

        Raises:
            NotOwnerError: the database has owned the archive, and another database does now.
        """
        if self.may_extend():
            return False
        if state.was_owner:
            raise NotOwnerError(
                f"the archive belongs to database {state.owner} now, this is {state.database}: it "
                "may not reject commands any more. If it is to own the archive again: forebay adopt"
            )
        return True

    def _become_owner(self) -> None:
        """Make this database the owner; entries that others add until then are taken over."""
        state = self.read_state()
        database = state.database or str(uuid.uuid4())
        self._connection.execute(_SET_IDENTITY, [database])
        while not (state := self.read_state()).is_owner:
            if state.owner is not None and self._ownership == "claim":
                return
            now = dt.datetime.now(dt.UTC)
            self._store.create(build_entry_key(state.position + 1), encode_owner(database, now))
            self._insert_new_entries()
        self._publish_private()

    def _publish_private(self) -> None:
        """Add the decisions of this database from before it owned the archive to the log."""
        while True:
            rows = self._connection.execute(_PRIVATE, [_BATCH]).fetchall()
            effects = find_private_effects(self._connection, _BATCH)
            state = self.read_state()
            # Without any, or if another database has just become the owner.
            if not (rows or effects) or not state.is_owner:
                return
            try:
                with self._reserve(state) as slot, self._connection.transaction():
                    slot.mark_alive()
                    slot.record([Rejection(*row) for row in rows], effects)
            except LogMovedError:
                self._catch_up_locked()

    def _is_alive(self, token: int) -> bool:
        """Return whether the deciding transaction of the writer with that token still runs."""
        row = self._connection.execute(_LOCK_EXISTS, [_LOCK_CLASS, token]).fetchone()
        return row is not None


@dataclass(slots=True)
class _ArchiveSlot:
    """A number of the log, for the archive's owner."""

    connection: Connection
    store: DecisionStore
    database: str
    number: int
    token: int
    #: True if the archive may have the entry.
    may_be_stored: bool = False

    def mark_alive(self) -> None:
        """See Slot."""
        self.connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK_CLASS, self.token])

    def record(self, rejections: Sequence[Rejection], effects: Sequence[Effect] = ()) -> None:
        """See Slot."""
        if not rejections and not effects:
            return
        content = encode_decisions(
            [rejection.to_archive() for rejection in rejections],
            [effect.to_archive() for effect in effects],
            self.database,
        )
        insert_rejections(self.connection, rejections, self.number)
        insert_effects(self.connection, effects, self.number)
        self.connection.execute(_SET_POSITION, [self.number, None])
        self.may_be_stored = True
        key = build_entry_key(self.number)
        # The key may hold our own entry: the SDK repeats a request after a lost answer.
        if not self.store.create(key, content) and b"".join(self.store.read(key)) != content:
            raise LogMovedError


@dataclass(frozen=True, slots=True)
class _PrivateSlot:
    """The database's own tables, for a database that does not own the archive."""

    connection: Connection

    def mark_alive(self) -> None:
        """See Slot."""

    def record(self, rejections: Sequence[Rejection], effects: Sequence[Effect] = ()) -> None:
        """See Slot."""
        insert_rejections(self.connection, rejections, None)
        insert_effects(self.connection, effects, None)


_GET_STATE = """
    SELECT database::text, position, owner::text, pending, was_owner FROM forebay.decision_log
"""
_FIND_REJECTED = """
    SELECT EXISTS (SELECT FROM forebay.rejections WHERE id BETWEEN %s::uuid AND %s::uuid),
           (SELECT pending FROM forebay.decision_log)
"""
_LOCK_EXISTS = """
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 2
      AND classid::bigint = %s AND objid::bigint = %s
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_SET_POSITION = """
    INSERT INTO forebay.decision_log AS l (position, owner) VALUES (%s, %s::uuid)
    ON CONFLICT (singleton) DO UPDATE SET
      position = excluded.position, owner = coalesce(excluded.owner, l.owner), pending = NULL,
      was_owner = l.was_owner OR coalesce(excluded.owner = l.database, false)
"""
_SET_IDENTITY = """
    INSERT INTO forebay.decision_log (database, position) VALUES (%s, -1)
    ON CONFLICT (singleton) DO UPDATE SET database = excluded.database
"""
_PRIVATE = """
    SELECT id::text, resource, key, op, code, sqlstate, detail, line, object, rejected_at
    FROM forebay.rejections WHERE slot IS NULL ORDER BY id LIMIT %s
"""
