"""A resource's table: the SQL of apply, made from its declaration, and queries about rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

from psycopg import sql

from forebay.apply.results import Counts, Result
from forebay.apply.rows.encoding import Encoder, Rows
from forebay.command import Command, KeyValue
from forebay.db.arrays import write_plain_array
from forebay.db.connect import Connection
from forebay.db.copy_text import as_copied
from forebay.db.faults import choose_code
from forebay.decisions.refusals import Refusal
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

# Resources with statements that are kept. No declaration has as many, but tests may.
_CACHED = 500


class ProbeResult(NamedTuple):
    """Puts and creates, classified by the contents of the table at their keys."""

    #: The key has neither a row nor a tombstone.
    fresh: list[Command]
    #: The key has a row or a tombstone that the command beats.
    contested: list[Command]
    #: The other commands: the table has them already, or they lose to a row or a tombstone.
    counts: Counts


class Table:
    """A resource's table, with its staging table, in one transaction."""

    def __init__(self, connection: Connection, spec: ResourceSpec) -> None:
        self.connection = connection
        self.spec = spec
        self.sql = _make_statements(spec)
        self.encoder = _make_encoder(spec)
        # The commit before has emptied the staging table, if it exists.
        self._is_stage_used = False

    def drop_stage(self) -> None:
        """Drop the staging table, whose columns' types may have changed since it was created."""
        self.connection.execute(self.sql.drop_stage)

    def clear_stage(self) -> None:
        """Create or empty the staging table, if needed; call it outside any savepoint.

        Within a savepoint, Postgres creates a new file for each TRUNCATE, which takes longer than
        all other statements. Outside, it truncates the file in place from the second time on.
        """
        statement = self.sql.clear_stage if self._is_stage_used else self.sql.create_stage
        self.connection.execute(statement)
        self._is_stage_used = True

    def probe(self, puts: Sequence[Command]) -> ProbeResult:
        """Compare puts and creates with the rows and tombstones at their keys, without bodies.

        While the resource's lock is held, other consumers may add or change rows after the query,
        but neither delete nor bury any.
        """
        creates = write_plain_array(["t" if put.op == "create" else "f" for put in puts])
        values = {"keys": self._build_keys(puts), "versions": _build_ids(puts)}
        row = self.connection.execute(
            self.sql.probe, {**values, "creates": creates, "count": len(puts)}
        ).fetchone()
        duplicates, beaten, winning_places, losing_places = row or (0, 0, None, None)
        contested = [puts[place] for place in winning_places or ()]
        fresh = list(puts)
        if beaten + len(contested) == len(puts):
            fresh = []
        elif beaten or contested:
            met_places = {*(losing_places or ()), *(winning_places or ())}
            fresh = [command for place, command in enumerate(puts) if place not in met_places]
        return ProbeResult(fresh, contested, Counts(0, beaten - duplicates, duplicates))

    def drop_beaten(self, refusals: Sequence[Refusal]) -> Result:
        """Count the refused commands that the table has, or that lose to it: no decision is needed.

        Args:
            refusals: of puts and creates with keys that Postgres can store.
        """
        if not refusals:
            return Result()
        probed = self.probe([refusal.command for refusal in refusals])
        unbeaten_ids = {command.id for command in (*probed.fresh, *probed.contested)}
        return Result(probed.counts, [r for r in refusals if r.command.id in unbeaten_ids])

    def delete_new(self, commands: Sequence[Command]) -> None:
        """Delete the rows that commands have inserted in this transaction, without a tombstone."""
        values = {"keys": self._build_keys(commands), "versions": _build_ids(commands)}
        self.connection.execute(self.sql.delete_new, values)

    def are_buried(self, puts: Sequence[Command]) -> bool:
        """Return whether any key has a tombstone; valid while the resource's lock is held."""
        values = {"keys": self._build_keys(puts)}
        row = self.connection.execute(self.sql.find_buried, values).fetchone()
        return row is None or bool(row[0])

    def has_triggers(self) -> bool:
        """Return whether the table has triggers of its own."""
        row = self.connection.execute(self.sql.find_triggers).fetchone()
        return row is None or bool(row[0])

    def read_unique_columns(self) -> list[list[str]]:
        """The columns of each unique index or constraint, except the key's and expressions."""
        rows = self.connection.execute(self.sql.read_unique_columns).fetchall()
        return [names for (names,) in rows]

    def find_edited_keys(self, keys: Sequence[KeyValue]) -> set[KeyValue]:
        """The keys with a row in `forebay.edits`."""
        by_text = {str(key): key for key in keys}
        rows = self.connection.execute(self.sql.find_edited_keys, {"keys": list(by_text)})
        return {by_text[text] for (text,) in rows}

    def compose_rows_query(self, fields: Sequence[FieldSpec]) -> sql.Composed:
        """The query of the rows of `keys`: key, version, whether by a create, and these fields."""
        texts = [sql.SQL(", {}::text").format(sql.Identifier(field.name)) for field in fields]
        return sql.SQL(
            "SELECT {key}::text, _version::text, _by_create{texts} FROM {table}"
            " WHERE {key} = ANY(%(keys)s::{key_type}[])"
        ).format(**self.sql.parts | {"texts": sql.SQL("").join(texts)})

    def compose_fields_update(self, names: Sequence[str]) -> sql.Composed:
        """The statement that sets these columns of the staged keys."""
        assignments = [sql.SQL("{0} = s.{0}").format(sql.Identifier(name)) for name in names]
        return sql.SQL(
            "UPDATE {table} AS t SET {set} FROM {stage} AS s WHERE t.{key} = s.{key}"
        ).format(**self.sql.parts | {"set": sql.SQL(", ").join(assignments)})

    def compose_fields_copy(self, names: Sequence[str]) -> sql.Composed:
        """The statement that stages keys with these columns."""
        columns = sql.SQL(", ").join(map(sql.Identifier, [self.spec.key.name, *names]))
        return sql.SQL("COPY {stage} ({columns}) FROM STDIN (ON_ERROR ignore)").format(
            **self.sql.parts | {"columns": columns}
        )

    def find_absent(self, rows: Rows) -> Rows:
        """The rows that are not in the table with their versions."""
        if not rows:
            return rows
        values = {"keys": self._build_keys(rows.commands), "versions": _build_ids(rows.commands)}
        places = self.connection.execute(self.sql.not_copied, values)
        return rows.at(place for (place,) in places)

    def refuse_left_out(self, rows: Rows) -> list[Refusal]:
        """The refusals of rows that COPY has left out."""
        unreadable = self.find_unreadable(rows)
        # The types can read the other rows, and the values of our own columns were decoded.
        detail = "a trigger of the table leaves the row out"
        return [
            unreadable.get(place) or Refusal(command, "unreadable_row", detail)
            for place, command in enumerate(rows.commands)
        ]

    def find_unreadable(self, rows: Rows) -> dict[int, Refusal]:
        """The refusals of rows that the columns' types can't read, by place.

        Checks all values in one query.
        """
        values = [
            (place, spec.name, as_copied(value))
            for spec, column in zip(self.spec.columns, rows.columns, strict=False)
            for place, value in enumerate(column)
            if value is not None
        ]
        if not values:
            return {}
        places, names, texts = map(list, zip(*values, strict=True))
        arrays = {"positions": places, "names": names, "texts": texts}
        refusals: dict[int, Refusal] = {}
        for place, state, message in self.connection.execute(self.sql.input_errors, arrays):
            refusal = Refusal(rows.commands[place], choose_code(state), message, state)
            refusals.setdefault(place, refusal)
        return refusals

    def _build_keys(self, commands: Sequence[Command]) -> str | list[KeyValue]:
        """The commands' keys as an array parameter."""
        return self.as_array([command.key for command in commands])

    def as_array(self, keys: Sequence[KeyValue]) -> str | list[KeyValue]:
        """Keys as an array parameter."""
        if self.spec.key.kind is Kind.TEXT:  # may need quotes, which the driver adds to a list
            return list(keys)
        return write_plain_array(map(str, keys))


def _build_ids(commands: Sequence[Command]) -> str:
    """The commands' ids as an array parameter."""
    return write_plain_array([command.id for command in commands])


def _template(text: str) -> cached_property[sql.Composed]:
    """A statement about a table, composed at its first use."""
    return cached_property(lambda statements: sql.SQL(text).format(**statements.parts))


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
# By names as `s_beats`: the command `s` beats the row, or a tombstone buries the command.
_CONDITIONS = {
    f"{new}_{name}": sql.SQL(text.replace("<new>", new))
    for new in ("a", "s", "excluded")
    for name, text in (
        ("beats", f"({_BEATS_ROW})"),
        ("is_buried", "(<new>._by_create OR d.version > <new>._version)"),
    )
}
_UPSERT_HEAD = """
    INSERT INTO {table} AS t ({columns}, _version, _by_create)
    SELECT {columns}, _version, _by_create FROM {stage} AS s WHERE NOT s._delete
"""
_NOT_BURIED = """
    AND NOT EXISTS (
      SELECT FROM forebay.tombstones AS d
      WHERE d.resource = {resource} AND d.key = s.{key}::text AND {s_is_buried})
"""
# One order of keys in every transaction, which prevents deadlocks between consumers.
_UPSERT_TAIL = """
    ORDER BY s.{key_order}
    ON CONFLICT ({key}) DO UPDATE SET {set}
    WHERE {excluded_beats}
"""
_DELETE = """
    DELETE FROM {table} AS t USING {stage} AS s
    WHERE s._delete AND t.{key} = s.{key} AND {s_beats}
"""


class Statements:
    """The statements that apply commands of a resource; `stage` is its staging table."""

    def __init__(self, spec: ResourceSpec) -> None:
        names = [column.name for column in spec.columns]
        self.field_names = frozenset(names[1:])
        key = sql.Identifier(spec.key.name)
        is_text = spec.key.kind is Kind.TEXT
        self.parts: dict[str, sql.Composable] = {
            **_CONDITIONS,
            "table": sql.Identifier("public", spec.table),
            "stage": sql.Identifier("pg_temp", f"forebay_in_{spec.table}"),
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

    probe = _template("""
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
               -- Not where every key was met, as in a replay: then no caller needs the places.
               CASE WHEN count(*) < %(count)s THEN array_agg(position - 1) FILTER (WHERE beaten) END
        FROM (
          SELECT a.position, t._version IS NOT DISTINCT FROM a._version AS here,
                 coalesce(NOT {a_beats}, false)
                   OR (d.version IS NOT NULL AND {a_is_buried}) AS beaten
          FROM unnest(%(keys)s::{key_type}[], %(versions)s::uuid[], %(creates)s::bool[])
               WITH ORDINALITY AS a (key, _version, _by_create, position)
          LEFT JOIN t ON t.key = a.key
          LEFT JOIN d ON d.key = a.key::text
          WHERE (t._version IS NOT NULL OR d.version IS NOT NULL)
            -- Where nothing was met, as of new rows, the arrays are not even looked at.
            AND (EXISTS (SELECT FROM t) OR EXISTS (SELECT FROM d))
        ) AS met
    """)
    find_buried = _template("""
        SELECT EXISTS (SELECT FROM forebay.tombstones
                       WHERE resource = {resource} AND key = ANY(%(keys)s::text[]))
    """)
    # Not LOG_VERBOSITY verbose, which would report each skipped row: libpq reads no notices while
    # it sends rows, and many notices would block both sides for ever.
    copy_new = _template(
        "COPY {table} ({columns}, _version, _by_create) FROM STDIN (ON_ERROR ignore)"
    )
    # By version too: another consumer may have inserted a key with a row that was skipped here.
    not_copied = _template("""
        SELECT a.position - 1
        FROM unnest(%(keys)s::{key_type}[], %(versions)s::uuid[])
             WITH ORDINALITY AS a (key, _version, position)
        LEFT JOIN (
          SELECT {key} AS key, _version FROM {table}
          WHERE {key} = ANY(%(keys)s::{key_type}[]) OFFSET 0) AS t
          ON t.key = a.key AND t._version = a._version
        WHERE t.key IS NULL
        ORDER BY a.position
    """)
    find_triggers = _template("""
        SELECT EXISTS (SELECT FROM pg_trigger
                       WHERE tgrelid = {table_name}::regclass AND NOT tgisinternal)
    """)
    # AS SELECT copies the types but no NOT NULL: a delete has no values.
    create_stage = _template("""
        CREATE TEMP TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS
        SELECT {columns}, _version, _by_create, false AS _delete FROM {table} WITH NO DATA
    """)
    clear_stage = _template("TRUNCATE {stage}")
    drop_stage = _template("DROP TABLE IF EXISTS {stage}")
    copy_staged = _template(
        "COPY {stage} ({columns}, _version, _by_create, _delete) FROM STDIN (ON_ERROR ignore)"
    )
    staged_keys = _template("SELECT {key}::text FROM {stage}")
    delete_new = _template("""
        DELETE FROM {table} AS t
        USING unnest(%(keys)s::{key_type}[], %(versions)s::uuid[]) AS a (key, version)
        WHERE t.{key} = a.key AND t._version = a.version
    """)
    read_unique_columns = _template("""
        SELECT array_agg(a.attname::text) FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
        WHERE i.indrelid = {table_name}::regclass AND i.indisunique AND NOT i.indisprimary
          AND 0 <> ALL(i.indkey)
        GROUP BY i.indexrelid
    """)
    read_tombstones = _template("""
        SELECT key, version::text FROM forebay.tombstones
        WHERE resource = {resource} AND key = ANY(%(keys)s::text[])
    """)
    read_edits = _template("""
        SELECT key, fields::text, kept, recent::text[] FROM forebay.edits
        WHERE resource = {resource} AND key = ANY(%(keys)s::text[])
    """)
    find_edited_keys = _template("""
        SELECT key FROM forebay.edits
        WHERE resource = {resource} AND key = ANY(%(keys)s::text[])
    """)
    delete_edits = _template("""
        DELETE FROM forebay.edits WHERE resource = {resource} AND key = ANY(%(keys)s::text[])
    """)
    copy_edits = _template("""
        COPY forebay.edits (resource, key, fields, kept, recent, tag, waiting, oldest) FROM STDIN
    """)
    # By the types of the real table, which an operator may have changed.
    input_errors = _template("""
        SELECT v.position, e.sql_error_code,
               concat_ws('; ', e.message, e.detail, 'column ' || v.name)
        FROM unnest(%(positions)s::int[], %(names)s::text[], %(texts)s::text[])
             AS v (position, name, value)
        JOIN pg_attribute AS a ON a.attrelid = {table_name}::regclass AND a.attname = v.name
        CROSS JOIN LATERAL
          pg_input_error_info(v.value, format_type(a.atttypid, a.atttypmod)) AS e
        WHERE e.sql_error_code IS NOT NULL
        ORDER BY v.position, a.attnum
    """)
    delete_rows = _template(_DELETE)
    #: Deletes rows that staged puts and creates beat, to free their unique values.
    delete_replaced = _template(_DELETE.replace("s._delete", "NOT s._delete"))
    # After delete_rows, an existing row is newer than the delete.
    bury = _template("""
        INSERT INTO forebay.tombstones AS d (resource, key, version)
        SELECT {resource}, s.{key}::text, s._version FROM {stage} AS s
        WHERE s._delete AND NOT EXISTS (SELECT FROM {table} AS t WHERE t.{key} = s.{key})
        ORDER BY s.{key}
        ON CONFLICT (resource, key) DO UPDATE SET version = excluded.version
        WHERE d.version < excluded.version
    """)
    find_any_tombstone = _template(
        "SELECT FROM forebay.tombstones WHERE resource = {resource} LIMIT 1"
    )
    upsert = _template(_UPSERT_HEAD + _NOT_BURIED + _UPSERT_TAIL)
    #: `upsert` for resources without tombstones; saves a join.
    upsert_unburied = _template(_UPSERT_HEAD + _UPSERT_TAIL)
    unbury = _template("""
        DELETE FROM forebay.tombstones AS d USING {stage} AS s, {table} AS t
        WHERE NOT s._delete AND t.{key} = s.{key} AND NOT t._by_create
          AND d.resource = {resource} AND d.key = s.{key}::text AND d.version < t._version
    """)
    #: Counts the staged commands that the table has, those that were just applied included.
    count_at_version = _template("""
        SELECT (SELECT count(*) FROM {stage} AS s JOIN {table} AS t USING ({key})
                WHERE NOT s._delete AND t._version = s._version)
             + (SELECT count(*) FROM {stage} AS s JOIN forebay.tombstones AS d
                  ON d.resource = {resource} AND d.key = s.{key}::text
                WHERE s._delete AND d.version = s._version)
    """)


_make_statements = lru_cache(_CACHED)(Statements)
_make_encoder = lru_cache(_CACHED)(Encoder)
