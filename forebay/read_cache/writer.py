"""The writer's side of the cache: announces changes before they are committed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from typing import Final

import psycopg

from forebay.command import Command
from forebay.db.connect import Connection
from forebay.read_cache.link import CacheUnavailableError, Link
from forebay.read_cache.positions import CURRENT_POSITION, HAS_WRITTEN, Position
from forebay.read_cache.records import (
    build_epoch_key,
    build_generation_key,
    make_token,
    name_item,
    name_lists,
)
from forebay.read_cache.scripts import ANNOUNCE_CHANGE

#: More names than this make every answer invalid: a longer script would block the server.
MAX_NAMES: Final = 20_000


class Announcer:
    """Announces the changes of transactions, so that no older answer stays valid.

    An announcement before the commit is enough. Answers from before it are invalid, and a reader
    stores a new one only from a replica that shows the announced transaction as ended. So it does
    not matter when the commit follows, or whether the process dies before or after it.

    If the cache can't be reached, the change is committed nevertheless; then every answer is made
    invalid as soon as the cache answers, and the answers' lifetime is the bound until then.
    """

    def __init__(self, link: Link, *, on_missed: Callable[[str], None] = lambda _: None) -> None:
        """Create the announcer.

        Args:
            link: the cache.
            on_missed: called with the reason if a change could not be announced.
        """
        self._link = link
        self._on_missed = on_missed
        #: True if a change was committed without an announcement.
        self._owes = False

    def announce(self, connection: Connection, names: Collection[str]) -> None:
        """Announce the changes of the open transaction, if it has made any.

        Args:
            connection: to the primary, in the transaction, after its last change.
            names: of the generations that it may change.

        Raises:
            psycopg.Error: the database could not answer.
        """
        if not _fetch_one(connection, HAS_WRITTEN)[0]:
            return
        # A repeated attempt announces its own transaction.
        self._send(connection, names, everything=self._owes or len(names) > MAX_NAMES)

    def announce_everything(self, connection: Connection) -> None:
        """Make every answer invalid: before the commit of a transaction, or after it.

        Raises:
            psycopg.Error: the database could not answer.
        """
        self._send(connection, (), everything=True)

    def settle(self, open_connection: Callable[[], AbstractContextManager[Connection]]) -> None:
        """Make up for changes that could not be announced, if the cache answers again."""
        if not self._owes:
            return
        try:
            with open_connection() as connection:
                self.announce_everything(connection)
        except psycopg.Error as exc:
            self._on_missed(f"the primary did not answer: {str(exc).strip()}")

    def close(self) -> None:
        """Close the connection to the cache."""
        self._link.close()

    def _send(self, connection: Connection, names: Collection[str], *, everything: bool) -> None:
        position = Position.of_row(_fetch_one(connection, CURRENT_POSITION))
        try:
            self._link.call(
                lambda run: [
                    "EVAL",
                    ANNOUNCE_CHANGE,
                    1 + (0 if everything else len(names)),
                    build_epoch_key(run),
                    *(() if everything else (build_generation_key(run, name) for name in names)),
                    position.transaction,
                    position.history,
                    make_token(),
                    "all" if everything else "",
                ]
            )
        except CacheUnavailableError as exc:
            self._owes = True
            self._on_missed(str(exc))
        else:
            self._owes = False


def name_changes(commands: Iterable[Command]) -> set[str]:
    """The names of the generations that end with these commands."""
    targets = {(command.resource, command.key) for command in commands}
    items = {name_item(resource, key) for resource, key in targets}
    return items | {name_lists(resource) for resource, _ in targets}


def _fetch_one(connection: Connection, statement: str) -> tuple[object, ...]:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None  # noqa: S101 - each statement returns one row
    return row
