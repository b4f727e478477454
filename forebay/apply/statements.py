"""The SQL of apply for a resource, made from its declaration, and the queries about rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from psycopg import sql

from forebay.apply.results import Counts
from forebay.apply.rows import Rows, as_copied
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.db.faults import code_of_state
from forebay.decisions.refusals import Refusal
from forebay.resource.spec import Kind, ResourceSpec


class Probed(NamedTuple):
    """Puts and creates, classified by the contents of the table at their keys."""

    #: The key has neither a row nor a tombstone.
    fresh: list[Command]
    #: The key has a row or a tombstone that the command beats.
    contested: list[Command]
    #: The other commands: the table has them already, or they lose to a row or a tombstone.
    counts: Counts


class Table:
    """A resource's table over a connection: its statements, and queries about rows."""

    def __init__(self, connection: Connection, spec: ResourceSpec) -> None:
        self.connection = connection
        self.spec = spec
        self.sql = _build_statements(spec)

    def probe(self, puts: Sequence[Command]) -> Probed:
        """Compare puts and creates with the rows and tombstones at their keys, without bodies.

        While the resource's lock is held, other consumers may add or change rows after the query,
        but neither delete nor bury any.
        """
        row = self.connection.execute(
            self.sql.probe,
            {
                "count": len(puts),
                "keys": self._build_keys(puts),
                "versions": _build_ids(puts),
                "creates": "{" + ",".join([_IS_CREATE[command.op] for command in puts]) + "}",
            },
        ).fetchone()
        duplicates, beaten, winning_places, losing_places = row or (0, 0, None, None)
        contested = [puts[place] for place in winning_places or ()]
        fresh = list(puts)
        if beaten + len(contested) == len(puts):
            fresh = []
        elif beaten or contested:
            met_places = {*(losing_places or ()), *(winning_places or ())}
            fresh = [command for place, command in enumerate(puts) if place not in met_places]
        counts = Counts(duplicates=duplicates, superseded=beaten - duplicates)
        return Probed(fresh, contested, counts)

    def are_buried(self, puts: Sequence[Command]) -> bool:
        """Return whether any key has a tombstone; valid while the resource's lock is held."""
        values = {"keys": self._build_keys(puts)}
        row = self.connection.execute(self.sql.are_buried, values).fetchone()
        return row is None or bool(row[0])

    def has_triggers(self) -> bool:
        """Return whether the table has triggers of its own."""
        row = self.connection.execute(self.sql.has_triggers).fetchone()
        return row is None or bool(row[0])

    def find_absent(self, rows: Rows) -> Rows:
        """The rows that are not in the table with their versions."""
        if not rows:
            return rows
        values = {"keys": self._build_keys(rows.commands), "versions": _build_ids(rows.commands)}
        places = self.connection.execute(self.sql.not_copied, values)
        return rows.at(place for (place,) in places)

    def find_input_faults(self, rows: Rows) -> dict[int, tuple[str, str]]:
        """The SQLSTATE and message of each row that the columns' types can't read, by place.

        Checks all values in one query.
        """
        values = [
            (place, spec.name, as_copied(value))
            for spec, column in zip(self.spec.columns, rows.columns, strict=False)
            for place, value in enumerate(column)
            if value is not None
        ]
        places, names, texts = zip(*values, strict=True)
        records = self.connection.execute(
            self.sql.input_errors,
            {"positions": list(places), "names": list(names), "texts": list(texts)},
        )
        faults: dict[int, tuple[str, str]] = {}
        for place, state, message in records:
            faults.setdefault(place, (state, message))
        return faults

    def refuse_unread(self, rows: Rows) -> list[Refusal]:
        """The refusals of rows that COPY has left out; at least one row."""
        faults = self.find_input_faults(rows)
        return [
            _refuse_unread(command, faults.get(place))
            for place, command in enumerate(rows.commands)
        ]

    def _build_keys(self, commands: Sequence[Command]) -> str | list[object]:
        """The commands' keys as an array parameter."""
        keys = [command.key for command in commands]
        if self.spec.key.kind is Kind.TEXT:  # may need quotes, which the driver adds to a list
            return list(keys)
        return "{" + ",".join(map(str, keys)) + "}"


def _build_ids(commands: Sequence[Command]) -> str:
    """The commands' ids as an array parameter."""
    return "{" + ",".join([command.id for command in commands]) + "}"


def _refuse_unread(command: Command, fault: tuple[str, str] | None) -> Refusal:
    if fault is None:
        # The types can read the row, and the values of our own columns were decoded.
        return Refusal(command, "unreadable_row", "a trigger of the table leaves the row out")
    sqlstate, message = fault
    return Refusal(command, code_of_state(sqlstate), message, sqlstate)


_IS_CREATE = {"create": "t", "put": "f"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statements:
    """The statements that apply commands of one resource."""

    probe: sql.Composed
    are_buried: sql.Composed
    copy_new: sql.Composed
    not_copied: sql.Composed
    has_triggers: sql.Composed
    create_stage: sql.Composed
    clear_stage: sql.Composed
    drop_stage: sql.Composed
    copy: sql.Composed
    staged_keys: sql.Composed
    input_errors: sql.Composed
    delete_rows: sql.Composed
    delete_replaced: sql.Composed
    bury: sql.Composed
    upsert: sql.Composed
    #: `upsert` for resources without tombstones; saves a join.
    upsert_unburied: sql.Composed
    unbury: sql.Composed
    count_rows_at_version: sql.Composed
    count_tombstones_at_version: sql.Composed


def _build_statements(spec: ResourceSpec) -> _Statements:
    """Every statement that applies commands of this resource."""
    names = [column.name for column in spec.columns]
    stage = sql.Identifier("pg_temp", f"forebay_in_{spec.table}")
    key = sql.Identifier(spec.key.name)
    is_text = spec.key.kind is Kind.TEXT
    parts: dict[str, sql.Composable] = {
        "table": sql.Identifier("public", spec.table),
        "stage": stage,
        "table_name": sql.Literal(f'public."{spec.table}"'),
        "resource": sql.Literal(spec.path),
        "key": key,
        # Python's order of texts, whatever the database's collation.
        "key_order": sql.SQL('{} COLLATE "C"').format(key) if is_text else key,
        "key_type": sql.SQL(_KEY_TYPES[spec.key.kind]),
        "columns": sql.SQL(", ").join(map(sql.Identifier, names)),
        "set": sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name))
            for name in (*names[1:], "_version", "_by_create")
        ),
    }
    statements_by_name = {name: sql.SQL(text).format(**parts) for name, text in _TEMPLATES.items()}
    return _Statements(**statements_by_name)


#: The types of archived keys, whatever range the column has.
_KEY_TYPES = {Kind.INTEGER: "bigint", Kind.TEXT: "text", Kind.UUID: "uuid"}

#: The version of the row `t`; if the row is outdated, the version before it was marked. The reverse
#: of `forebay.ids.mark_outdated`.
ORIGINAL_VERSION = """
    (CASE WHEN t._version >= 'e0000000-0000-0000-0000-000000000000'::uuid
              AND t._version < 'f0000000-0000-0000-0000-000000000000'::uuid
         THEN (substr(t._version::text, 15, 1) || substr(t._version::text, 2, 13) || '7'
               || substr(t._version::text, 16))::uuid
         ELSE t._version END)
"""

# `t` is a row of the resource, `s` a staged command, `d` a tombstone, `a` a probed command. "Beats"
# is law 2: a put or delete beats a create; among puts and deletes the greater id wins, among
# creates the smaller.
_BEATS_VERSION = """
    CASE WHEN <new>._by_create
         THEN t._by_create AND <new>._version < <version>
         ELSE t._by_create OR <new>._version > <version> END
"""
# An outdated row loses to its own command too. The first case is the common one.
_BEATS_ROW = f"""
    CASE WHEN t._version < 'e0000000-0000-0000-0000-000000000000'::uuid
         THEN {_BEATS_VERSION.replace("<version>", "t._version")}
         ELSE <new>._version = {ORIGINAL_VERSION}
              OR {_BEATS_VERSION.replace("<version>", ORIGINAL_VERSION)} END
"""
_IS_BURIED = "(<new>._by_create OR d.version > <new>._version)"
_UPSERT_HEAD = """
    INSERT INTO {table} AS t ({columns}, _version, _by_create)
    SELECT {columns}, _version, _by_create FROM {stage} AS s WHERE NOT s._delete
"""
# One order of keys in every transaction, which prevents deadlocks between consumers.
_UPSERT_TAIL = """
    ORDER BY s.{key_order}
    ON CONFLICT ({key}) DO UPDATE SET {set}
    WHERE <beats>
""".replace("<beats>", _BEATS_ROW.replace("<new>", "excluded"))
_NOT_BURIED = """
    AND NOT EXISTS (
      SELECT FROM forebay.tombstones AS d
      WHERE d.resource = {resource} AND d.key = s.{key}::text AND <buried>)
""".replace("<buried>", _IS_BURIED.replace("<new>", "s"))
_PROBE = (
    (
        """
    -- Apart from each other: one walk along an index each, for all keys together.
    WITH t AS MATERIALIZED (
      SELECT {key} AS key, _version, _by_create FROM {table}
      WHERE {key} = ANY(%(keys)s::{key_type}[])
    ), d AS MATERIALIZED (
      SELECT key, version FROM forebay.tombstones
      WHERE resource = {resource} AND key = ANY(%(keys)s::text[])
    )
    SELECT count(*) FILTER (WHERE here AND beaten), count(*) FILTER (WHERE beaten),
           array_agg(position - 1) FILTER (WHERE NOT beaten),
           -- Not where every key was met, as in a replay: then nobody asks which.
           CASE WHEN count(*) < %(count)s THEN array_agg(position - 1) FILTER (WHERE beaten) END
    FROM (
      SELECT a.position, t._version IS NOT DISTINCT FROM a._version AS here,
             coalesce(NOT <beats>, false)
               OR (d.version IS NOT NULL AND <buried>) AS beaten
      FROM unnest(%(keys)s::{key_type}[], %(versions)s::uuid[], %(creates)s::bool[])
           WITH ORDINALITY AS a (key, _version, _by_create, position)
      LEFT JOIN t ON t.key = a.key
      LEFT JOIN d ON d.key = a.key::text
      WHERE (t._version IS NOT NULL OR d.version IS NOT NULL)
        -- Where nothing was met, as of new rows, the arrays are not even looked at.
        AND (EXISTS (SELECT FROM t) OR EXISTS (SELECT FROM d))
    ) AS met
"""
    )
    .replace("<beats>", f"({_BEATS_ROW})")
    .replace("<buried>", _IS_BURIED)
    .replace("<new>", "a")
)
_TEMPLATES = {
    "probe": _PROBE,
    "are_buried": """
        SELECT EXISTS (SELECT FROM forebay.tombstones
                       WHERE resource = {resource} AND key = ANY(%(keys)s::text[]))
    """,
    # Not LOG_VERBOSITY verbose, which would report each skipped row: libpq reads no notices while
    # it sends rows, and many notices would block both sides for ever.
    "copy_new": "COPY {table} ({columns}, _version, _by_create) FROM STDIN (ON_ERROR ignore)",
    # By version too: another consumer may have inserted a key whose row was skipped here.
    "not_copied": """
        SELECT a.position - 1
        FROM unnest(%(keys)s::{key_type}[], %(versions)s::uuid[])
             WITH ORDINALITY AS a (key, _version, position)
        LEFT JOIN (
          SELECT {key} AS key, _version FROM {table}
          WHERE {key} = ANY(%(keys)s::{key_type}[]) OFFSET 0) AS t
          ON t.key = a.key AND t._version = a._version
        WHERE t.key IS NULL
        ORDER BY a.position
    """,
    "has_triggers": """
        SELECT EXISTS (SELECT FROM pg_trigger
                       WHERE tgrelid = {table_name}::regclass AND NOT tgisinternal)
    """,
    # AS SELECT copies the types but no NOT NULL: a delete has no values.
    "create_stage": """
        CREATE TEMP TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS
        SELECT {columns}, _version, _by_create, false AS _delete FROM {table} WITH NO DATA
    """,
    "clear_stage": "TRUNCATE {stage}",
    "drop_stage": "DROP TABLE IF EXISTS {stage}",
    "copy": """
        COPY {stage} ({columns}, _version, _by_create, _delete) FROM STDIN (ON_ERROR ignore)
    """,
    "staged_keys": "SELECT {key}::text FROM {stage}",
    # By the types of the real table, which an operator may have changed.
    "input_errors": """
        SELECT v.position, e.sql_error_code,
               concat_ws('; ', e.message, e.detail, 'column ' || v.name)
        FROM unnest(%(positions)s::int[], %(names)s::text[], %(texts)s::text[])
             AS v (position, name, value)
        JOIN pg_attribute AS a ON a.attrelid = {table_name}::regclass AND a.attname = v.name
        CROSS JOIN LATERAL
          pg_input_error_info(v.value, format_type(a.atttypid, a.atttypmod)) AS e
        WHERE e.sql_error_code IS NOT NULL
        ORDER BY v.position, a.attnum
    """,
    "delete_rows": """
        DELETE FROM {table} AS t USING {stage} AS s
        WHERE s._delete AND t.{key} = s.{key} AND (<beats>)
    """.replace("<beats>", _BEATS_ROW.replace("<new>", "s")),
    # Deletes rows that staged puts and creates beat, to free their unique values.
    "delete_replaced": """
        DELETE FROM {table} AS t USING {stage} AS s
        WHERE NOT s._delete AND t.{key} = s.{key} AND (<beats>)
    """.replace("<beats>", _BEATS_ROW.replace("<new>", "s")),
    # After delete_rows, an existing row is newer than the delete.
    "bury": """
        INSERT INTO forebay.tombstones AS d (resource, key, version)
        SELECT {resource}, s.{key}::text, s._version FROM {stage} AS s
        WHERE s._delete AND NOT EXISTS (SELECT FROM {table} AS t WHERE t.{key} = s.{key})
        ORDER BY s.{key}
        ON CONFLICT (resource, key) DO UPDATE SET version = excluded.version
        WHERE d.version < excluded.version
    """,
    "upsert": _UPSERT_HEAD + _NOT_BURIED + _UPSERT_TAIL,
    "upsert_unburied": _UPSERT_HEAD + _UPSERT_TAIL,
    "unbury": """
        DELETE FROM forebay.tombstones AS d USING {stage} AS s, {table} AS t
        WHERE NOT s._delete AND t.{key} = s.{key} AND NOT t._by_create
          AND d.resource = {resource} AND d.key = s.{key}::text AND d.version < t._version
    """,
    "count_rows_at_version": """
        SELECT count(*) FROM {stage} AS s JOIN {table} AS t USING ({key})
        WHERE NOT s._delete AND t._version = s._version
    """,
    "count_tombstones_at_version": """
        SELECT count(*) FROM {stage} AS s JOIN forebay.tombstones AS d
          ON d.resource = {resource} AND d.key = s.{key}::text
        WHERE s._delete AND d.version = s._version
    """,
}
