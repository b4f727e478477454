"""Classifies errors of Postgres: caused by the data, or by circumstances that a retry may change.

The classes: PostgreSQL documentation, appendix A, "Error Codes".
"""

from __future__ import annotations

import re

import psycopg

from forebay.resource.spec import ResourceSpec

# 20 a CASE without a branch for the value, 21 cardinality (two spellings of a key in a statement:
# in separate statements, they apply), 22 data exception, 23 integrity constraint, 38 raised by an
# external routine, 44 WITH CHECK OPTION, 45 raised by a trigger per the SQL standard, 54 program
# limit (a row or an index entry too large), P0 raised by a trigger in PL/pgSQL.
_DATA_CLASSES = frozenset({"20", "21", "22", "23", "38", "44", "45", "54", "P0"})
# Classes with these first characters are left to implementations (ISO 9075-2, "SQLSTATE").
# Postgres uses only _POSTGRES_CLASSES of them; triggers may raise the others.
_OWN_CODES = re.compile(r"[5-9I-Z]")
_POSTGRES_CLASSES = frozenset({"53", "54", "55", "57", "58", "72", "P0", "XX"})

UNIQUE_VIOLATION = "23505"
#: Unique and exclusion constraints, and references.
CONFLICTS = frozenset({UNIQUE_VIOLATION, "23503", "23P01"})

_COPY_LINE = re.compile(r"^COPY \w+, \D*(\d+)", re.MULTILINE)
_CAMEL = re.compile(r"(?<!^)(?=[A-Z])")


def is_data_fault(error: psycopg.Error) -> bool:
    """Return whether the statement failed on its values, and would fail again."""
    if error.sqlstate is None:
        return False
    kind = error.sqlstate[:2]
    return kind in _DATA_CLASSES or (
        _OWN_CODES.match(kind) is not None and kind not in _POSTGRES_CLASSES
    )


def find_null_column(error: psycopg.Error, table: str) -> str | None:
    """The column of that table that violated a NOT NULL constraint; None for other errors."""
    diag = error.diag
    if error.sqlstate != "23502" or (diag.schema_name, diag.table_name) != ("public", table):
        return None
    return diag.column_name


def needs_newer_code(error: psycopg.Error, spec: ResourceSpec) -> bool:
    """Return whether a column that this release does not write must have a value."""
    column = find_null_column(error, spec.table)
    return column is not None and spec.column(column) is None


def find_failed_line(error: psycopg.Error) -> int | None:
    """The number of the line at which a COPY failed, from 1; None if the error names no line.

    Postgres reports it in the error's context, in the server's language: `COPY cities, line 7`.
    """
    match = _COPY_LINE.search(error.diag.context or "")
    return int(match[1]) if match else None


def is_conflict_with_neighbours(error: psycopg.Error) -> bool:
    """Return whether a row failed because of other rows, which may have changed since."""
    return error.sqlstate in CONFLICTS


def is_worth_an_instant_retry(error: psycopg.Error) -> bool:
    """Return whether it is a deadlock or serialization failure; the connection still works."""
    return error.sqlstate in {"40001", "40P01"}


def is_query_fault(error: psycopg.Error) -> bool:
    """Return whether a SELECT failed on its client's input, and would fail again.

    22 data exception (an invalid regular expression, a cast that fails), 54 program limit (a
    pattern or a search that is too large).
    """
    return error.sqlstate is not None and error.sqlstate[:2] in {"22", "54"}


def is_recovery_conflict(error: psycopg.Error) -> bool:
    """Return whether a replica cancelled a query because it blocked replication.

    PostgreSQL documentation, "Handling Query Conflicts". A standby has no other reason for 40001
    and 40P01, because it executes no writes.
    """
    if error.sqlstate == "57014":
        return "conflict with recovery" in (error.diag.message_primary or "")
    return error.sqlstate in {"40001", "40P01"}


def is_connection_lost(error: psycopg.Error) -> bool:
    """Return whether the connection is lost: broken, or ended by a server's stop or restart."""
    return error.sqlstate is None or error.sqlstate.startswith(("57P", "08"))


def choose_fault_code(error: psycopg.Error) -> str:
    """A stable name for the error: `unique_violation`."""
    return _name_class(type(error))


def choose_code(sqlstate: str) -> str:
    """The same name for a SQLSTATE: `numeric_value_out_of_range` for 22003."""
    try:
        return _name_class(psycopg.errors.lookup(sqlstate))
    except KeyError:
        return "data_error"


def _name_class(kind: type[psycopg.Error]) -> str:
    return _CAMEL.sub("_", kind.__name__).lower()


def describe_fault(error: psycopg.Error) -> str:
    """The message of Postgres on one line, with the column if the error names it."""
    diag = error.diag
    parts = [diag.message_primary or str(error).strip(), diag.message_detail]
    context_line = diag.context.splitlines()[0] if diag.context else None
    if diag.column_name:
        parts.append(f"column {diag.column_name}")
    elif context_line and context_line.startswith("COPY"):
        parts.append(context_line)
    return "; ".join(part for part in parts if part)[:2000].replace("\x00", "")
