"""Migrations of the running database: additive migrations run automatically, others on request."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import psycopg
from alembic.util.exc import CommandError

from lambdas.migrate.app import migrate
from local.errors import MigrationsWaitError, ToolFailedError
from local.postgres.config import locate_primary
from local.settings import DEFAULT_BASE_PORT, LocalSettings
from migrations.effects import Pending, count_rows, pending

_ELSEWHERE = (
    "the database has a migration that is not in migrations/versions, so no migration is run: "
    "restore its file, or begin with new tables (docs/migrations.md, a migration that has run)"
)


@dataclass(frozen=True, slots=True)
class SchemaChanges:
    """The pending migrations of a database, in order."""

    #: The additive migrations before the first that may hurt.
    adding: Sequence[Pending]
    #: The first migration that may hurt, and all that follow it.
    waiting: Sequence[Pending]
    url: str
    #: The database has a migration that this checkout lacks; which it lacks itself can't be known.
    is_elsewhere: bool = False

    @classmethod
    def of(cls, url: str) -> Self:
        """Find the pending migrations of the database at the URL."""
        try:
            missing = pending(url)
        except CommandError:  # the migrate function leaves such a database alone
            return cls((), (), url, is_elsewhere=True)
        except psycopg.Error:
            raise
        except Exception as exc:  # a migration is user code, which runs at import
            raise ToolFailedError(f"a migration can't be imported: {exc!r}") from exc
        first = next(
            (number for number, migration in enumerate(missing) if migration.hurting), len(missing)
        )
        return cls(missing[:first], missing[first:], url)

    @property
    def last(self) -> str:
        """The newest waiting revision; accepting it accepts all of them."""
        return self.waiting[-1].revision

    def describe(self) -> str:
        """List the waiting migrations, their statements that may hurt, and the affected rows."""
        lines: list[str] = []
        for migration in self.waiting:
            lines.append(f"  {migration.revision}  {migration.title}")
            for statement in migration.hurting:
                rows = count_rows(self.url, statement)
                lines.append(f"    {statement}" + (f"  -- {rows:,} rows" if rows else ""))
        return "\n".join(lines)


def take_over(url: str, run: Callable[[Sequence[str]], None], *, port: int) -> str | None:
    """Run the pending additive migrations of the running stack's primary.

    Args:
        url: of the primary.
        run: migrates the database up to revisions, at most one for each chain.
        port: the stack's port, for the message.

    Returns:
        A message about migrations that wait or that the checkout lacks; None if there are none.
    """
    changes = SchemaChanges.of(url)
    if changes.is_elsewhere:
        return _ELSEWHERE
    if changes.adding:
        run(_find_newest(changes.adding))
    if not changes.waiting:
        return None
    return (
        f"{_explain(changes)}; read them, then run: {_make('migrate', port)}\n{changes.describe()}"
    )


def check_before_start(url: str, accepted: str | None, *, port: int) -> str | None:
    """Refuse a start that would run migrations that may hurt and were not accepted.

    Args:
        url: of the primary.
        accepted: the revision up to which the user accepts all migrations.
        port: the stack's port, for the message.

    Returns:
        A message, where the database has a migration that the checkout lacks.

    Raises:
        MigrationsWaitError: with the statements, and the command that accepts them.
    """
    changes = SchemaChanges.of(url)
    if changes.waiting and changes.last != accepted:
        raise MigrationsWaitError(
            f"not started: {_explain(changes)}.\n{changes.describe()}\n"
            "Delete the migration, or start with: "
            f"{_make('run', port)} ACCEPT={changes.last}"
        )
    return _ELSEWHERE if changes.is_elsewhere else None


def migrate_running(
    settings: LocalSettings, accepted: str | None, answer: Callable[[], str] = sys.stdin.readline
) -> int:
    """Run `make migrate`: show the waiting migrations, and run them after a confirmation.

    Accepting a revision confirms all migrations up to it. Returns the exit code: 1 if the user did
    not confirm, or if the checkout lacks a migration.

    Raises:
        ToolFailedError: the stack does not run.
    """
    url, port = locate_primary(settings).url(), settings.ports.base
    try:
        changes = SchemaChanges.of(url)
        if changes.is_elsewhere:
            sys.stdout.write(f"{_ELSEWHERE}\n")
            return 1
        if changes.waiting and changes.last != accepted:
            sys.stdout.write(f"{_explain(changes)}:\n{changes.describe()}\nRun them? [y/N] ")
            sys.stdout.flush()
            if answer().strip().lower() not in {"y", "yes"}:
                sys.stdout.write("nothing was changed\n")
                return 1
        migrate(url, _find_newest([*changes.adding, *changes.waiting]))
    except psycopg.OperationalError as exc:
        raise ToolFailedError(
            f"the database of the stack on port {port} does not respond; start it with "
            f"{_make('run', port)}: {exc}"
        ) from exc
    sys.stdout.write("the database is at the newest migration\n")
    return 0


def _find_newest(migrations: Sequence[Pending]) -> list[str]:
    """The newest shown revision of each chain: another migration may have been saved since."""
    return list({migration.chain: migration.revision for migration in migrations}.values())


def _explain(changes: SchemaChanges) -> str:
    count = len(changes.waiting)
    if count == 1:
        return "1 migration waits for your confirmation, because it may drop or change data"
    return f"{count} migrations wait for your confirmation, because they may drop or change data"


def _make(target: str, port: int) -> str:
    return f"make {target}" if port == DEFAULT_BASE_PORT else f"make {target} PORT={port}"
