"""Prevents autogenerate from dropping objects that no declaration has ever declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from forebay.db.schema import PIPELINE_SCHEMA
from forebay.resource.shape import Recorded
from migrations.trigrams import is_trigram

#: Columns of every resource's table besides its fields.
_HIDDEN = frozenset({"_version", "_by_create"})


class Declared:
    """The objects of earlier declarations: autogenerate drops only these, once not declared.

    All other objects in the schema `public` were made by hand, in a user's own migration, and are
    left alone: tables, columns, indexes and constraints. (Autogenerate sees no views or triggers.)
    """

    def __init__(self, recorded: Mapping[str, Recorded], *, schema: str, trigrams: bool) -> None:
        """Create a filter from recorded shapes.

        Args:
            recorded: by a resource's path.
            schema: the schema with the objects to compare.
            trigrams: whether the compared database supports trigram indexes.
        """
        self._schema = schema
        self._trigrams = trigrams
        self._tables = {resource.table: resource for resource in recorded.values()}

    def includes(
        self,
        found: Any,  # noqa: ANN401 - alembic's
        name: str | None,
        kind: str,
        reflected: bool,  # noqa: FBT001 - alembic calls it by position
        compared: object,
    ) -> bool:
        """Return whether autogenerate compares an object: Alembic's `include_object`."""
        table = found if kind == "table" else found.table
        if (table.schema or "public") != self._schema:
            return False
        if not reflected and kind == "index" and _is_gin(found):
            # The name identifies it; Alembic compares expressions leniently, with warnings.
            return compared is None and not self._is_left_out(found)
        if not reflected or compared is not None or self._schema == PIPELINE_SCHEMA:
            return True
        resource = self._tables.get(str(table.name))
        if resource is None:
            return False
        if kind == "column":
            shapes = resource.versions.values()
            return name in _HIDDEN or any(name in shape.fields for shape in shapes)
        return kind == "table" or name in resource.indexes

    def _is_left_out(self, index: sa.Index) -> bool:
        """Return whether a migration left the index out because the server can't have it."""
        if self._trigrams or not is_trigram(index) or index.table is None:
            return False
        resource = self._tables.get(index.table.name)
        return resource is not None and index.name in resource.indexes


def _is_gin(index: sa.Index) -> bool:
    return bool(index.dialect_options["postgresql"]["using"] == "gin")
