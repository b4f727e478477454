"""Detects renamed columns: a dropped and an added column may be the same column."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from alembic.operations.ops import (
    AddColumnOp,
    AlterColumnOp,
    DropColumnOp,
    MigrateOperation,
    MigrationScript,
    ModifyTableOps,
    OpContainer,
)
from alembic.util.exc import CommandError
from sqlalchemy.dialects import postgresql

#: `RENAME=none`: no column was renamed.
_NONE = "none"


@dataclass(frozen=True, slots=True)
class Rename:
    """A column that may have been renamed."""

    table: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.table}.{self.old}:{self.new}"


def ask_about_renames(
    script: MigrationScript, said: str, ask: Callable[[str], str] | None = None
) -> None:
    """Replace a dropped and an added column by a rename, if the user confirms it.

    Args:
        script: the revision of autogenerate; changed in place.
        said: the user's renames, `cities.name:title`, separated by commas; `none`; or empty.
        ask: prompts with a question and returns the answer; by default the terminal, if any.

    Raises:
        CommandError: a column may have been renamed, `said` is empty and there is no terminal; or
            `said` contains an unknown rename.
    """
    upgrade, downgrade = script.upgrade_ops, script.downgrade_ops
    if upgrade is None or downgrade is None:
        return
    answers = {part.strip() for part in said.split(",") if part.strip()}
    likely = list(_find_likely(upgrade))
    unknown = answers - {_NONE} - {str(rename) for rename in likely}
    if unknown:
        raise CommandError(
            f"RENAME={','.join(sorted(unknown))}: no dropped and added columns of the same "
            "type match"
        )
    columns: set[tuple[str, str]] = set()
    for rename in likely:
        if {(rename.table, rename.old), (rename.table, rename.new)} & columns:
            continue
        if str(rename) in answers or (not answers and _ask_user(rename, ask or _find_terminal())):
            columns |= {(rename.table, rename.old), (rename.table, rename.new)}
            _rename(upgrade, rename.table, rename.old, rename.new)
            _rename(downgrade, rename.table, rename.new, rename.old)


def _find_terminal() -> Callable[[str], str] | None:
    return input if sys.stdin is not None and sys.stdin.isatty() else None


def _ask_user(guess: Rename, ask: Callable[[str], str] | None) -> bool:
    question = f"{guess.table}: was the column {guess.old} renamed to {guess.new}?"
    if ask is None:
        raise CommandError(
            f"{question} Use RENAME={guess} to keep its values, or RENAME={_NONE} to drop them and "
            "add an empty column. Nothing was written"
        )
    return ask(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def _find_likely(operations: OpContainer) -> Iterator[Rename]:
    for container in _iterate_tables(operations):
        added = [operation for operation in container.ops if isinstance(operation, AddColumnOp)]
        dropped = [operation for operation in container.ops if isinstance(operation, DropColumnOp)]
        for new in added:
            for old in dropped:
                if _compile_type(old) == _compile_type(new):
                    yield Rename(container.table_name, old.column_name, new.column.name)


def _iterate_tables(operations: OpContainer) -> Iterator[ModifyTableOps]:
    for operation in operations.ops:
        if isinstance(operation, ModifyTableOps):
            yield operation


def _compile_type(operation: AddColumnOp | DropColumnOp) -> str:
    column = operation.to_column()
    return column.type.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]


def _rename(operations: OpContainer, table: str, old: str, new: str) -> None:
    """Replace the drop of a column and the addition of another by a rename."""
    for container in _iterate_tables(operations):
        if container.table_name != table:
            continue
        added = next(
            operation
            for operation in container.ops
            if isinstance(operation, AddColumnOp) and operation.column.name == new
        )
        dropped = next(
            operation
            for operation in container.ops
            if isinstance(operation, DropColumnOp) and operation.column_name == old
        )
        remaining = [
            operation
            for operation in container.ops
            if operation is not added and operation is not dropped
        ]
        # The rename comes first: added indexes use the new name.
        container.ops[:] = [*_build_rename(table, dropped, added), *remaining]


def _build_rename(
    table: str, dropped: DropColumnOp, added: AddColumnOp
) -> Iterator[MigrateOperation]:
    before, after = dropped.to_column(), added.column
    yield AlterColumnOp(
        table,
        before.name,
        schema=added.schema,
        existing_type=before.type,
        existing_nullable=before.nullable,
        modify_name=after.name,
    )
    is_commented = before.comment != after.comment
    if before.nullable != after.nullable or is_commented:
        yield AlterColumnOp(
            table,
            after.name,
            schema=added.schema,
            existing_type=after.type,
            existing_nullable=before.nullable,
            existing_comment=before.comment,
            modify_nullable=after.nullable if before.nullable != after.nullable else None,
            modify_comment=after.comment if is_commented else False,
        )
