"""Migrations of the running database: those that only add run at once, the others after a yes."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import psycopg
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from lambdas.migrate.app import migrate
from local.errors import MigrationsWaitError, ToolFailedError
from local.postgres.config import primary_of
from local.settings import DEFAULT_BASE_PORT, LocalSettings
from migrations.effects import Pending, pending, row_count

_ELSEWHERE = (
    "the database has a migration that is not in migrations/versions, so no migration is run: get "
    "its file back, or begin with new tables (docs/migrations.md, a migration that has run)"
)


@dataclass(frozen=True, slots=True)
class SchemaChanges:
    """The migrations that a database lacks, in their order."""

    #: Those that only add, up to the first that does more.
    adding: Sequence[Pending]
    #: The first that may hurt, and all that follow it.
    waiting: Sequence[Pending]
    url: str
    #: The database has a migration that this checkout lacks; which it lacks itself can't be known.
    is_elsewhere: bool = False

    @classmethod
    def of(cls, url: str, scripts: ScriptDirectory | None = None) -> Self:
        """The changes that the database at the URL lacks.

        Raises:
            psycopg.Error: the database does not answer.
            ToolFailedError: a migration can't be imported.
        """
        try:
            missing = pending(url, scripts)
        except CommandError:  # the migrate function leaves such a database alone
            return cls((), (), url, is_elsewhere=True)
        except psycopg.Error:
            raise
        except Exception as exc:  # a migration is the user's code, and runs when it is imported
            raise ToolFailedError(f"a migration can't be imported: {exc!r}") from exc
        first = next((n for n, one in enumerate(missing) if one.hurting), len(missing))
        return cls(missing[:first], missing[first:], url)

    @property
    def last(self) -> str:
        """The newest of the waiting revisions, by which all of them are accepted."""
        return self.waiting[-1].revision

    def described(self) -> str:
        """The waiting migrations with the statements that may hurt, and how many rows it is about.

        Raises:
            psycopg.Error: the database does not answer.
        """
        lines: list[str] = []
        for one in self.waiting:
            lines.append(f"  {one.revision}  {one.title}")
            for statement in one.hurting:
                rows = row_count(self.url, statement)
                lines.append(f"    {statement}" + (f"  -- {rows:,} rows" if rows else ""))
        return "\n".join(lines)


def take_over(url: str, run: Callable[[str], None], *, port: int) -> str | None:
    """Runs the pending migrations that only add.

    Args:
        url: of the running stack's primary.
        run: migrates the database up to a revision.
        port: the stack's, for the message.

    Returns:
        A message about the migrations that wait, or that can't be found; None if none do.

    Raises:
        psycopg.Error: the database does not answer.
    """
    changes = SchemaChanges.of(url)
    if changes.is_elsewhere:
        return _ELSEWHERE
    if changes.adding:
        run(changes.adding[-1].revision)
    if not changes.waiting:
        return None
    return (
        f"{_heading(changes)}; read them, then run: {_make('migrate', port)}\n{changes.described()}"
    )


def check_before_start(url: str, accepted: str | None, *, port: int) -> str | None:
    """Refuses a start that would run migrations which may hurt and were not accepted.

    Args:
        url: of the primary.
        accepted: the revision up to which the user accepts all.
        port: the stack's, for the message.

    Returns:
        A message, where the database has a migration that the checkout lacks.

    Raises:
        MigrationsWaitError: with the statements, and the command that accepts them.
        psycopg.Error: the database does not answer.
    """
    changes = SchemaChanges.of(url)
    if changes.waiting and changes.last != accepted:
        raise MigrationsWaitError(
            f"not started: {_heading(changes)}.\n{changes.described()}\n"
            "Take the migration back, or start with: "
            f"{_make('run', port)} ACCEPT={changes.last}"
        )
    return _ELSEWHERE if changes.is_elsewhere else None


def migrate_running(
    settings: LocalSettings, accepted: str | None, answer: Callable[[], str] = sys.stdin.readline
) -> int:
    """`make migrate`: shows what waits, and runs it after a yes.

    Args:
        settings: of the running stack.
        accepted: the revision up to which the user accepts all; nothing is asked then.
        answer: reads what the user types.

    Returns:
        The exit code: 1 where the user said no, or the checkout lacks a migration.

    Raises:
        ToolFailedError: no stack runs there.
    """
    url, port = primary_of(settings).url(), settings.ports.base
    try:
        changes = SchemaChanges.of(url)
        if changes.is_elsewhere:
            sys.stdout.write(f"{_ELSEWHERE}\n")
            return 1
        if changes.waiting and changes.last != accepted:
            sys.stdout.write(f"{_heading(changes)}:\n{changes.described()}\nRun them? [y/N] ")
            sys.stdout.flush()
            if answer().strip().lower() not in {"y", "yes"}:
                sys.stdout.write("nothing was changed\n")
                return 1
        migrate(url, _newest(changes))
    except psycopg.OperationalError as exc:
        raise ToolFailedError(
            f"no database answers for the stack on port {port}; start it with "
            f"{_make('run', port)}: {exc}"
        ) from exc
    sys.stdout.write("the database is at the newest migration\n")
    return 0


def _newest(changes: SchemaChanges) -> str:
    """Up to what was shown, should another migration have been saved meanwhile."""
    shown = [*changes.adding, *changes.waiting]
    return shown[-1].revision if shown else "head"


def _heading(changes: SchemaChanges) -> str:
    count = len(changes.waiting)
    return (
        f"{count} migration{'s' if count > 1 else ''} wait{'' if count > 1 else 's'} for your yes, "
        "because something is dropped, renamed, narrowed or rewritten"
    )


def _make(target: str, port: int) -> str:
    return f"make {target}" if port == DEFAULT_BASE_PORT else f"make {target} PORT={port}"
