"""Statements for a key: its item, and the traces of a command to it."""

from __future__ import annotations

from psycopg import sql

from forebay.command import KeyValue
from forebay.resource.spec import ResourceSpec
from lambdas.read.sql.members import all_members, json_text
from lambdas.read.sql.statement import Query, Scope, Values, table


def item_query(spec: ResourceSpec, key: KeyValue) -> Query:
    """One row: the item's version, its state tag if it has patches, and its JSON text."""
    # A join would double the cost, mostly for its plan.
    text = """
        SELECT t._version::text,
               (SELECT e.tag FROM forebay.edits AS e
                WHERE e.resource = %(resource)s AND e.key = %(key_text)s),
               {json}
        FROM {table} AS t WHERE t.{key} = %(key)s
    """
    statement = sql.SQL(text).format(
        json=json_text(all_members(spec.columns), Scope("t", Values())),
        table=table(spec),
        key=sql.Identifier(spec.key.name),
    )
    return Query(statement, key_values(spec, key))


def key_values(spec: ResourceSpec, key: KeyValue) -> dict[str, object]:
    """The values of a key in a statement: for the resource's table, and for the pipeline's own."""
    return {"key": key, "key_text": str(key), "resource": spec.path}


def traces_query(spec: ResourceSpec, key: KeyValue, command_id: str | None) -> Query:
    """The traces of a key and a command; always one row.

    Columns: the row's version and whether a create made it, the tombstone's version; the
    rejection's code, detail and SQLSTATE, and the command that amends it; the key's patches, null
    without any: in the item by field, the ids of those kept, the recent ids; the effective id of a
    decided command.
    """
    # A line's first member of that name is the command's id. Read as JSON, a line with an escaped
    # NUL would be an error.
    text = """
        SELECT t._version::text, t._by_create, d.version::text,
               r.code, r.detail, r.sqlstate, a.command::text,
               e.fields,
               (SELECT array_agg(substring(line FROM '"id":"([0-9a-f-]{{36}})"'))
                FROM unnest(e.kept) AS line),
               e.recent::text[], f.effective_id::text
        FROM (SELECT) AS one
        LEFT JOIN {table} AS t ON t.{key} = %(key)s
        LEFT JOIN forebay.tombstones AS d
          ON d.resource = %(resource)s AND d.key = %(key_text)s
        LEFT JOIN forebay.rejections AS r
          ON r.id = %(id)s::uuid AND r.resource = %(resource)s AND r.key = %(key_text)s
        LEFT JOIN forebay.decisions AS a
          ON a.rejection = r.id AND a.recorded_at IS NOT NULL
        LEFT JOIN forebay.edits AS e
          ON e.resource = %(resource)s AND e.key = %(key_text)s
        LEFT JOIN forebay.effects AS f
          ON f.id = %(id)s::uuid AND f.resource = %(resource)s AND f.key = %(key_text)s
    """
    statement = sql.SQL(text).format(table=table(spec), key=sql.Identifier(spec.key.name))
    return Query(statement, {**key_values(spec, key), "id": command_id})
