"""Statements for a key: its item, and the traces of a command to it."""

from __future__ import annotations

from psycopg import sql

from forebay.command import KeyValue
from forebay.resource.spec import ResourceSpec
from lambdas.read.sql.members import all_members, json_text
from lambdas.read.sql.statement import Query, Scope, Values, table


def item_query(spec: ResourceSpec, key: KeyValue) -> Query:
    """One row: the item's version and its JSON text."""
    text = "SELECT t._version::text, {json} FROM {table} AS t WHERE t.{key} = %(key)s"
    statement = sql.SQL(text).format(
        json=json_text(all_members(spec.columns), Scope("t", Values())),
        table=table(spec),
        key=sql.Identifier(spec.key.name),
    )
    return Query(statement, {"key": key})


def traces_query(spec: ResourceSpec, key: KeyValue, command_id: str | None) -> Query:
    """The traces of a key and a command; always one row.

    Columns: the row's version and whether a create made it, the tombstone's version, and the
    rejection's code, detail and SQLSTATE.
    """
    text = """
        SELECT t._version::text, t._by_create, d.version::text, r.code, r.detail,
               r.sqlstate
        FROM (SELECT) AS one
        LEFT JOIN {table} AS t ON t.{key} = %(key)s
        LEFT JOIN forebay.tombstones AS d
          ON d.resource = %(resource)s AND d.key = %(key_text)s
        LEFT JOIN forebay.rejections AS r
          ON r.id = %(id)s::uuid AND r.resource = %(resource)s AND r.key = %(key_text)s
    """
    statement = sql.SQL(text).format(table=table(spec), key=sql.Identifier(spec.key.name))
    values = {"key": key, "key_text": str(key), "resource": spec.path, "id": command_id}
    return Query(statement, values)
