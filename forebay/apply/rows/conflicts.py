"""Finds every row that a constraint refuses because of other rows, by one statement.

Postgres names the first such row and stops. Trying many rows separately would take some ten
statements each, while the transaction holds its locks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from forebay.apply.rows.encoding import Rows
from forebay.apply.rows.table import ORIGINAL_VERSION, Table
from forebay.db.copy_text import as_copied
from forebay.db.faults import choose_fault_code, is_conflict_with_neighbours
from forebay.decisions.refusals import Refusal


@dataclass(frozen=True, slots=True)
class _Constraint:
    """A constraint that has refused a row of our table, from the catalog."""

    name: str
    #: Columns of our table, and their types.
    columns: Sequence[str]
    types: Sequence[str]
    #: The other table of a foreign key, quoted for SQL, and its columns in the same order.
    other: str | None = None
    other_columns: Sequence[str] = ()
    #: True if the other table refers to this table; False if this table refers to the other.
    is_referred_to: bool = False


def find_conflicts(table: Table, rows: Rows, error: psycopg.Error) -> dict[int, Refusal]:
    """Find rows that the constraint of an error refuses, whatever happens to the other rows.

    A row is refused if the row of another key has its unique value, if the row that it refers to
    is missing, or if it is to be deleted and other rows refer to it. Rows of keys in `rows` don't
    count: they may give up their values. Of rows with a unique value in common, all are refused
    except the row with the smallest command id.

    Args:
        table: their table.
        rows: of different keys.
        error: Postgres's error for one of the rows.

    Returns:
        Refusals by the rows' places. Empty if the values that are sent can't decide, as with an
        index over an expression, or with a trigger, which may change the values. Then each row has
        to be tried.
    """
    if len(rows) == 1 or not is_conflict_with_neighbours(error):
        return {}
    refused_rows = _find_refused_rows(table, rows, error, with_each_other=True)
    return {place: refusal for place, refusal, blocking_key in refused_rows if blocking_key is None}


def find_hopeless(
    table: Table, rows: Rows, error: psycopg.Error, *, keys: Collection[str] | None = None
) -> dict[int, Refusal]:
    """Find rows that stay refused in any order of `rows`: a row of another key is in the way.

    Args, returns: as `find_conflicts`; a single row is examined too. `keys` are those with rows
    that may change, if they are more than those of `rows`.
    """
    waiting: dict[str, dict[int, Refusal]] = defaultdict(dict)
    hopeless: dict[int, Refusal] = {}
    for place, refusal, blocking_key in _find_refused_rows(
        table, rows, error, with_each_other=False, keys=keys
    ):
        by_place = hopeless if blocking_key is None else waiting[blocking_key]
        by_place[place] = refusal
    pending = list(hopeless)
    while pending:
        for place, refusal in waiting[str(rows.commands[pending.pop()].key)].items():
            if place not in hopeless:
                hopeless[place] = refusal
                pending.append(place)
    return hopeless


def find_claimants(
    table: Table, rows: Rows, error: psycopg.Error, keys: Collection[str]
) -> Iterator[tuple[int, str]]:
    """Yield rows with a unique value of one of these keys' rows: their places, and that key."""
    for place, _, blocking_key in _find_refused_rows(
        table, rows, error, with_each_other=False, keys=keys
    ):
        if blocking_key is not None:
            yield place, blocking_key


def _find_refused_rows(
    table: Table,
    rows: Rows,
    error: psycopg.Error,
    *,
    with_each_other: bool,
    keys: Collection[str] | None = None,
) -> Iterator[tuple[int, Refusal, str | None]]:
    """Yield each refused row's place, its refusal, and the key of the row in the way.

    The key is None if it is not among `keys`, which are those of `rows` if not given. With
    `with_each_other`, `rows` are compared with each other too.
    """
    if keys is None:
        keys = [str(command.key) for command in rows.commands]
    for constraint in _read_constraints(table, error):
        places = [
            place
            for place, command in enumerate(rows.commands)
            if (command.op == "delete") is constraint.is_referred_to
        ]
        if not places:
            continue
        statement = _build_statement(table, constraint, with_each_other=with_each_other)
        values = {**_build_values(table, constraint, rows.at(places)), "keys": list(keys)}
        for number, value, blocking_key in table.connection.execute(statement, values).fetchall():
            place = places[number]
            detail = _describe_conflict(table, error, constraint, value)
            yield (
                place,
                Refusal(
                    rows.commands[place], choose_fault_code(error), detail, error.sqlstate, error
                ),
                blocking_key,
            )


def _read_constraints(table: Table, error: psycopg.Error) -> Iterator[_Constraint]:
    """The constraint that an error names; twice if the table refers to itself."""
    diag, spec = error.diag, table.spec
    query = _UNIQUE if isinstance(error, psycopg.errors.UniqueViolation) else _FOREIGN
    parameters = {"name": diag.constraint_name, "table": spec.table, "at": diag.table_name}
    names = {column.name for column in spec.columns}
    for row in table.connection.execute(query, parameters).fetchall():
        constraint = _Constraint(str(diag.constraint_name), *row)
        # A delete has no values besides its key; of the other rows only the keys are known.
        by_key = constraint.columns if constraint.is_referred_to else constraint.other_columns
        is_own = constraint.other == _quote(table)
        if (constraint.is_referred_to or is_own) and list(by_key) != [spec.key.name]:
            continue
        if names >= set(constraint.columns):
            yield constraint


def _build_values(
    table: Table, constraint: _Constraint, rows: Rows
) -> dict[str, Sequence[str | None]]:
    """The values of the columns as `v0`, `v1` and so on, with the commands' ids and keys."""
    columns = dict(zip([column.name for column in table.spec.columns], rows.columns, strict=False))
    return {
        "ids": [command.id for command in rows.commands],
        "own_keys": [str(command.key) for command in rows.commands],
        **{
            f"v{number}": [None if value is None else as_copied(value) for value in columns[name]]
            for number, name in enumerate(constraint.columns)
        },
    }


def _build_statement(
    table: Table, constraint: _Constraint, *, with_each_other: bool
) -> sql.Composed:
    numbered = [f"v{number}" for number in range(len(constraint.columns))]
    names = list(map(sql.Identifier, numbered))
    others = map(sql.Identifier, constraint.other_columns or constraint.columns)
    # In a CASE: a text that the type can't read must not be cast.
    typed = "CASE WHEN pg_input_is_valid({0}, {1}) THEN {0}::{2} END AS {0}"
    types = map(sql.Literal, constraint.types), map(sql.SQL, constraint.types)
    is_own = constraint.other == _quote(table)
    key = sql.Identifier(table.spec.key.name)
    parts: dict[str, sql.Composable] = {
        "arrays": _join(", ", "{}::text[]", map(sql.Placeholder, numbered)),
        "names": _join(", ", "{}", names),
        "typed": _join(", ", typed, names, *types),
        "complete": _join(" AND ", "{} IS NOT NULL", names),
        "meets": _join(" AND ", "t.{1} = a.{0}", names, others),
        "other": sql.SQL(constraint.other or _quote(table)),
        "is_second": sql.SQL("nth > 1" if with_each_other else "false"),
        # Rows of other tables don't change.
        "their_key": sql.SQL("t.{}::text").format(key)
        if constraint.other is None or is_own
        else sql.SQL("NULL::text"),
        "table": sql.SQL(_quote(table)),
        "key": key,
        "key_that_comes": sql.SQL("v0::text" if is_own else "NULL::text"),
    }
    template = _TAKEN if constraint.other is None else _MISSING
    if constraint.is_referred_to:
        template = _REFERRED_TO
    return sql.SQL(_GIVEN + template).format(**parts)


def _join(separator: str, template: str, *columns: Iterable[sql.Composable]) -> sql.Composed:
    """Fill the template with the values of each row of the columns, and join the results."""
    return sql.SQL(separator).join(
        sql.SQL(template).format(*values) for values in zip(*columns, strict=True)
    )


def _describe_conflict(
    table: Table, error: psycopg.Error, constraint: _Constraint, value: str
) -> str:
    """The message of Postgres for the row, on one line."""
    own, other, name = table.spec.table, error.diag.table_name, constraint.name
    if constraint.other is None:
        violation = f'duplicate key value violates unique constraint "{name}"'
        state = "already exists"
    elif constraint.is_referred_to:
        violation = f'update or delete on table "{own}" violates foreign key constraint "{name}"'
        violation += f' on table "{other}"'
        state = f'is still referenced from table "{other}"'
    else:
        violation = f'insert or update on table "{own}" violates foreign key constraint "{name}"'
        state = f"is not present in table {constraint.other}"
    columns = ", ".join(constraint.columns)
    return f"{violation}; Key ({columns})=({value}) {state}."[:2000]


def _quote(table: Table) -> str:
    return f'"public"."{table.spec.table}"'


# Per row: its place, its values, and the key in the way if that key is in `rows`.
_GIVEN = """
    WITH a AS (
      SELECT position, id, own_key, {typed}
      FROM unnest(%(ids)s::uuid[], %(own_keys)s::text[], {arrays})
           WITH ORDINALITY AS given (id, own_key, {names}, position)
    )
    SELECT position - 1, concat_ws(', ', {names}), CASE WHEN by = ANY(%(keys)s) THEN by END
"""
_TAKEN = """
    FROM (
      SELECT a.*, is_second, CASE WHEN NOT is_second THEN {their_key} END AS by
      FROM (SELECT *, {is_second} AS is_second
            FROM (SELECT *, row_number() OVER (PARTITION BY {names} ORDER BY id) AS nth
                  FROM a WHERE {complete}) AS a) AS a
      LEFT JOIN {other} AS t ON {meets}
      WHERE is_second OR {their_key} <> own_key
    ) AS found
"""
_MISSING = """
    FROM (
      SELECT *, {key_that_comes} AS by FROM a
      WHERE {complete} AND NOT EXISTS (SELECT FROM {other} AS t WHERE {meets})
    ) AS found
"""
# Only referring rows of `keys` are listed: there may be millions of others. A delete that is older
# than the row does not remove it, so references to the row don't matter.
_REFERRED_TO = """
    FROM (
      SELECT a.*, NULL::text AS by FROM a
      WHERE EXISTS (SELECT FROM {other} AS t
                    WHERE {meets} AND ({their_key} = ANY(%(keys)s)) IS NOT TRUE)
      UNION ALL
      SELECT a.*, {their_key} AS by FROM a JOIN {other} AS t ON {meets}
      WHERE {their_key} = ANY(%(keys)s) AND {their_key} <> own_key
    ) AS found
    WHERE EXISTS (SELECT FROM {table} AS t
                  WHERE t.{key} = found.v0 AND (t._by_create OR found.id > <version>))
""".replace("<version>", ORIGINAL_VERSION)
_UNIQUE = """
    SELECT array_agg(a.attname::text ORDER BY k.place),
           array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY k.place)
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_class AS t ON t.oid = i.indrelid AND t.relnamespace = 'public'::regnamespace
    CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
    WHERE c.relname = %(name)s AND t.relname = %(table)s AND t.relname = %(at)s
      AND k.place <= i.indnkeyatts
      AND i.indexprs IS NULL AND i.indpred IS NULL AND NOT i.indnullsnotdistinct
      AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = t.oid AND NOT tgisinternal)
    HAVING count(*) > 0 AND bool_and(i.indcollation[k.place - 1] = a.attcollation)
"""
# One row for each side of the foreign key that is our table.
_FOREIGN = """
    SELECT array_agg(a.attname::text ORDER BY k.place),
           array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY k.place),
           format('"%%s"."%%s"', max(n.nspname), max(other.relname)),
           array_agg(b.attname::text ORDER BY k.place),
           side.is_referred_to
    FROM pg_constraint AS c
    JOIN pg_class AS at ON at.oid = c.conrelid
    CROSS JOIN LATERAL (
      VALUES (c.conrelid, c.confrelid, c.conkey, c.confkey, false),
             (c.confrelid, c.conrelid, c.confkey, c.conkey, true)
    ) AS side (ours, theirs, our_columns, their_columns, is_referred_to)
    JOIN pg_class AS own ON own.oid = side.ours AND own.relnamespace = 'public'::regnamespace
    JOIN pg_class AS other ON other.oid = side.theirs
    JOIN pg_namespace AS n ON n.oid = other.relnamespace
    CROSS JOIN unnest(side.our_columns, side.their_columns)
         WITH ORDINALITY AS k (ours, theirs, place)
    JOIN pg_attribute AS a ON a.attrelid = side.ours AND a.attnum = k.ours
    JOIN pg_attribute AS b ON b.attrelid = side.theirs AND b.attnum = k.theirs
    WHERE c.contype = 'f' AND c.confmatchtype = 's' AND c.conname = %(name)s
      AND at.relname = %(at)s AND own.relname = %(table)s
      AND (NOT side.is_referred_to OR c.confdeltype IN ('a', 'r'))
      AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = own.oid AND NOT tgisinternal)
    GROUP BY c.oid, side.is_referred_to
"""
