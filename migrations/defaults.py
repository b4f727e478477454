"""Adds the defaults of fields to columns that a new revision adds."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson
import sqlalchemy as sa
from alembic.operations.ops import AddColumnOp, OpContainer

from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

#: Characters without a special meaning in literals of Postgres and in `sqlalchemy.text`.
_PLAIN = re.compile(r"[A-Za-z0-9 _.,+{}\[\]-]*")


def add_defaults(operations: OpContainer, resources: Mapping[str, ResourceSpec]) -> None:
    """Add the defaults of fields as server defaults to added columns of resource tables.

    Bodies of older commands lack the field, so a rebuild fills its column with the default. The
    server default gives existing rows, and rows that the previous release inserts during the
    deployment, the same value. This release's consumer sends a value for every column.
    """
    specs = {spec.table: spec for spec in resources.values()}
    for operation in operations.ops:
        if isinstance(operation, OpContainer):  # the changes of a table
            add_defaults(operation, resources)
        elif isinstance(operation, AddColumnOp) and operation.schema in {None, "public"}:
            spec = specs.get(operation.table_name)
            field = spec.column(operation.column.name) if spec is not None else None
            if field is not None and field.default is not None:
                default = sa.text(_format_literal(field))
                operation.column.server_default = sa.DefaultClause(default)


def _format_literal(field: FieldSpec) -> str:
    """The default as a literal, which the column's type reads like the same value in a COPY."""
    if field.kind is Kind.JSON:
        return _quote(orjson.dumps(field.default).decode())
    if field.kind is Kind.BOOLEAN:
        return "true" if field.default else "false"
    return _quote(str(field.default))


def _quote(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return f"'{text}'"
    return "E'" + "".join(map(_escape, text)) + "'"


def _escape(character: str) -> str:
    return character if _PLAIN.fullmatch(character) else f"\\U{ord(character):08x}"
