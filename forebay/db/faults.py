"""What an error of Postgres means for us: the data's fault, or nobody's and worth a retry.

Source of the classes: PostgreSQL documentation, appendix A, "Error Codes".
"""

from __future__ import annotations

import re

import psycopg

from forebay.resource.spec import ResourceSpec

# 20 a CASE without a branch for the value, 21 cardinality (two spellings of one key in a batch:
# apart, they apply), 22 data exception, 23 integrity constraint, 38 an external routine's own,
# 44 WITH CHECK OPTION, 45 a trigger's own by the SQL standard, 54 program limit (a row or an index
# entry too large), P0 raised by a trigger in PL/pgSQL.
_DATA_CLASSES = frozenset({"20", "21", "22", "23", "38", "44", "45", "54", "P0"})
# Classes that begin so are left to implementations (ISO 9075-2, "SQLSTATE"), and Postgres has
# taken only these; the others are what somebody's trigger raises under a code of its own.
_OWN_CODES = re.compile(r"[5-9I-Z]")
_POSTGRES_CLASSES = frozenset({"53", "54", "55", "57", "58", "72", "P0", "XX"})

#: Unique and exclusion constraints, and references.
CONFLICTS = frozenset({"23505", "23503", "23P01"})

_COPY_LINE = re.compile(r"^COPY \w+, \D*(\d+)", re.MULTILINE)
_CAMEL = re.compile(r"(?<!^)(?=[A-Z])")


def is_data_fault(error: psycopg.Error) -> bool:
    """Whether the statement failed on the values it was given, and would fail again."""
    if error.sqlstate is None:
        return False
    kind = error.sqlstate[:2]
    return kind in _DATA_CLASSES or (
        _OWN_CODES.match(kind) is not None and kind not in _POSTGRES_CLASSES
    )


def null_column(error: psycopg.Error, table: str) -> str | None:
    """The column of that table which a NOT NULL constraint found empty, if that is the error."""
    diag = error.diag
    if error.sqlstate != "23502" or (diag.schema_name, diag.table_name) != ("public", table):
        return None
    return diag.column_name


def needs_newer_code(error: psycopg.Error, spec: ResourceSpec) -> bool:
    """Whether a column that this release doesn't write must have a value: no row could."""
    column = null_column(error, spec.table)
    return column is not None and spec.column(column) is None


def failed_line(error: psycopg.Error) -> int | None:
    """The number of the line at which a COPY failed, from 1, if it tells of one.

    Postgres says so in the error's context, in its own language: `COPY cities, line 7`.
    """
    found = _COPY_LINE.search(error.diag.context or "")
    return int(found[1]) if found else None


def is_conflict_with_neighbours(error: psycopg.Error) -> bool:
    """Whether a row failed because of other rows, which may have changed in the meantime."""
    return error.sqlstate in CONFLICTS


def is_worth_an_instant_retry(error: psycopg.Error) -> bool:
    """Deadlocks and serialization failures: the transaction is gone, the connection is well."""
    return error.sqlstate in {"40001", "40P01"}


def is_query_fault(error: psycopg.Error) -> bool:
    """Whether a SELECT failed on what its client put into it, and would fail again.

    22 data exception (a pattern that is no regular expression, a cast that does not work out),
    54 program limit (a pattern or a search that is too large).
    """
    return error.sqlstate is not None and error.sqlstate[:2] in {"22", "54"}


def is_recovery_conflict(error: psycopg.Error) -> bool:
    """Whether a replica cancelled a query because it was in the way of replication.

    PostgreSQL documentation, "Handling Query Conflicts". A standby has no other reason for 40001
    and 40P01: nothing is written there.
    """
    if error.sqlstate == "57014":
        return "conflict with recovery" in (error.diag.message_primary or "")
    return error.sqlstate in {"40001", "40P01"}


def is_connection_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone: broken off, or ended by a server that stops or restarts."""
    return error.sqlstate is None or error.sqlstate.startswith(("57P", "08"))


def fault_code(error: psycopg.Error) -> str:
    """A stable name for the error: `unique_violation`."""
    return _name(type(error))


def code_of_state(sqlstate: str) -> str:
    """The same name, of a SQLSTATE: `numeric_value_out_of_range` of 22003."""
    try:
        return _name(psycopg.errors.lookup(sqlstate))
    except KeyError:
        return "data_error"


def _name(kind: type[psycopg.Error]) -> str:
    return _CAMEL.sub("_", kind.__name__).lower()


def fault_detail(error: psycopg.Error) -> str:
    """What Postgres said, on one line, with the column if it named one."""
    diag = error.diag
    said = [diag.message_primary or str(error).strip(), diag.message_detail]
    where = diag.context.splitlines()[0] if diag.context else None
    if diag.column_name:
        said.append(f"column {diag.column_name}")
    elif where and where.startswith("COPY"):
        said.append(where)
    return "; ".join(part for part in said if part)[:2000].replace("\x00", "")
