"""Trigram indexes, which need the extension pg_trgm; not every server has it.

An index changes no answer. So if the extension is not available, as in the Postgres of the
one-machine stack, the migration leaves the index out.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import Operations
from alembic.operations.ops import (
    CreateIndexOp,
    DropIndexOp,
    MigrateOperation,
    MigrationScript,
    OpContainer,
)

from forebay.db.schema import TRIGRAM_OPERATORS

_AVAILABLE = sa.text("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")


@Operations.register_operation("create_trigram_index")
class CreateTrigramIndexOp(MigrateOperation):
    """Creates the extension and an index, if the server has the extension."""

    def __init__(self, name: str, table: str, column: str) -> None:
        self.name = name
        self.table = table
        self.column = column

    @classmethod
    def create_trigram_index(
        cls, operations: Operations, name: str, table: str, column: str
    ) -> None:
        """The operation `op.create_trigram_index` of migrations."""
        operations.invoke(cls(name, table, column))

    def reverse(self) -> MigrateOperation:
        """The operation that drops the index, if it exists."""
        return DropIndexOp(self.name, self.table, if_exists=True)


@Operations.implementation_for(CreateTrigramIndexOp)
def _create(operations: Operations, operation: CreateTrigramIndexOp) -> None:
    context = operations.get_context()
    if not context.as_sql and not has_trigrams(operations.get_bind()):
        return
    operations.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    operations.create_index(
        operation.name,
        operation.table,
        [operation.column],
        postgresql_using="gin",
        postgresql_ops={operation.column: TRIGRAM_OPERATORS},
    )


@renderers.dispatch_for(CreateTrigramIndexOp)
def _render(_context: AutogenContext, operation: CreateTrigramIndexOp) -> str:
    arguments = ", ".join(map(repr, (operation.name, operation.table, operation.column)))
    return f"op.create_trigram_index({arguments})"


def has_trigrams(connection: sa.Connection) -> bool:
    """Return whether a server has the extension that trigram indexes need."""
    return bool(connection.execute(_AVAILABLE).scalar())


def is_trigram(index: sa.Index) -> bool:
    """Return whether an index is a trigram index."""
    return TRIGRAM_OPERATORS in index.dialect_options["postgresql"]["ops"].values()


def ask_for_extension(script: MigrationScript) -> None:
    """Replace trigram indexes of a new revision by operations that create the extension."""
    for operations in (script.upgrade_ops, script.downgrade_ops):
        if operations is not None:
            _replace(operations)


def _replace(operations: OpContainer) -> None:
    for place, operation in enumerate(operations.ops):
        if isinstance(operation, OpContainer):
            _replace(operation)
        elif isinstance(operation, CreateIndexOp) and is_trigram(operation.to_index()):
            column = str(next(iter(operation.to_index().columns)).name)
            operations.ops[place] = CreateTrigramIndexOp(
                str(operation.index_name), operation.table_name, column
            )
        elif isinstance(operation, DropIndexOp) and is_trigram(operation.to_index()):
            operation.if_exists = True
