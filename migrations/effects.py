"""Classifies pending migrations: does a migration only add, or change or remove existing data?

The SQL of a migration is rendered, not run. A statement only adds if it has one of the forms listed
here. Every other statement counts as destructive, and so does a migration with SQL that
can't be rendered because it reads the database.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory

from forebay.db.connect import iterate_logins
from migrations import trigrams  # noqa: F401 - registers the operation that migrations call
from migrations.chains import CHAINS, Chain

#: Returns the type of a column in Postgres's notation, or None if the column does not exist.
ColumnType = Callable[[str, str], str | None]


@dataclass(frozen=True, slots=True)
class Pending:
    """A migration that a database lacks."""

    #: The chain's section in `alembic.ini`.
    chain: str
    revision: str
    #: The first line of its docstring.
    title: str
    #: Statements that drop, rename, narrow or rewrite existing data; empty if it only adds.
    hurting: tuple[str, ...]


def pending(url: str, chains: Sequence[Chain] = CHAINS) -> list[Pending]:
    """The migrations that the database at the URL lacks, in the order in which they would run.

    For a database without any migration, `hurting` is empty: there is no data yet.

    Args:
        url: of a database.
        chains: the migrations; this project's by default.

    Raises:
        psycopg.Error: the database does not answer.
        alembic.util.exc.CommandError: the database is at a revision that is not in the chains.
    """
    with _connect(url) as connection:
        revisions = [chain.read_revisions(connection) for chain in chains]
        created: set[str] = set()

        def column_type(table: str, column: str) -> str | None:
            return _read_column_type(connection, table, column)

        return [
            Pending(
                chain.section,
                script.revision,
                (script.doc or "").partition("\n")[0],
                tuple(_find_hurting(script, column_type, created)) if any(revisions) else (),
            )
            for chain, current in zip(chains, revisions, strict=True)
            for script in _find_missing(chain.read_scripts(), current)
        ]


def count_rows(url: str, statement: str) -> int | None:
    """The number of rows of the table in an ALTER TABLE or DROP TABLE; None without such a table.

    Raises:
        psycopg.Error: the database does not answer.
    """
    match = re.match(rf"(?:ALTER|DROP) TABLE (?:IF EXISTS )?({_NAME})", statement, re.IGNORECASE)
    if match is None:
        return None
    with _connect(url) as connection:
        table = connection.execute("SELECT to_regclass(%s)::text", [match[1]]).fetchone()
        if table is None or table[0] is None:
            return None
        # Safe: Postgres itself has quoted the name.
        count = f"SELECT count(*) FROM {table[0]}"  # noqa: S608
        row = connection.execute(count.encode()).fetchone()
    return int(row[0]) if row else None


def find_hurting_statements(sql: str, column_type: ColumnType, created: set[str]) -> Iterator[str]:
    """Yield the statements that may change or remove existing data.

    Args:
        sql: statements of Postgres, separated by semicolons.
        column_type: of the database before the migration.
        created: tables created by earlier statements, which hold no data; this call adds to it.
    """
    for text, code in _split_statements(sql):
        if not _only_adds(code, column_type, created):
            yield text


def _find_missing(scripts: ScriptDirectory, current: tuple[str, ...]) -> list[Script]:
    # The iteration would raise another error for a revision that the scripts lack.
    scripts.get_revisions(current)
    return list(scripts.iterate_revisions("heads", current or "base"))[::-1]


def _connect(url: str) -> psycopg.Connection[Any]:
    """A connection with the search path of migrations (`env.py`)."""
    login = next(iterate_logins(url, environment=os.environ))
    return psycopg.connect(login, options="-c search_path=public")


def _read_column_type(connection: psycopg.Connection[Any], table: str, column: str) -> str | None:
    row = connection.execute(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attname = %s AND NOT attisdropped",
        [table, _unquote(column)],
    ).fetchone()
    return None if row is None else str(row[0])


def _find_hurting(script: Script, column_type: ColumnType, created: set[str]) -> Iterator[str]:
    buffer = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql",
        opts={"as_sql": True, "output_buffer": buffer, "literal_binds": True},
    )
    try:
        with Operations.context(context):
            script.module.upgrade()
    except Exception as exc:  # noqa: BLE001 - the migration is the user's code
        yield f"(its SQL can't be shown without running it: {exc})"
        return
    yield from find_hurting_statements(buffer.getvalue(), column_type, created)


_NAME = r'(?:"[^"]+"|[a-z_][\w$]*)(?:\.(?:"[^"]+"|[a-z_][\w$]*))?'
_LITERAL = re.compile(
    r"""
      --[^\n]*                              # a comment
    | /\*.*?\*/
    | (?<!\w)e'(?:[^'\\]|\\.|'')*'          # a text
    | '(?:[^']|'')*'
    | (?<![\w$])\$(?P<tag>[a-z_]\w*|)\$.*?\$(?P=tag)\$
    | "(?:[^"]|"")*"                        # a name
    | ;
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


def _split_statements(sql: str) -> Iterator[tuple[str, str]]:
    """Each statement for display, and without its comments and the contents of its literals."""
    text: list[str] = []
    code: list[str] = []
    place = 0
    for match in _LITERAL.finditer(sql):
        code_between, part = sql[place : match.start()], match[0]
        place = match.end()
        if part == ";":
            yield from _join([*text, code_between], [*code, code_between])
            text, code = [], []
        elif part.startswith(("--", "/*")):
            text += [code_between, " "]
            code += [code_between, " "]
        else:
            text += [code_between, part]
            code += [code_between, part if part.startswith('"') else "''"]
    yield from _join([*text, sql[place:]], [*code, sql[place:]])


def _join(text: Sequence[str], code: Sequence[str]) -> Iterator[tuple[str, str]]:
    texts = " ".join("".join(text).split()), " ".join("".join(code).split())
    if texts[1]:
        yield texts


_ADDING = re.compile(
    r"""
      (?:BEGIN|COMMIT) | (?:SET|RESET)\ .* | COMMENT\ ON\ .* | GRANT\ .*
    | CREATE\ (?:SCHEMA|EXTENSION|VIEW|SEQUENCE)\ .*
    | CREATE\ INDEX\ .*
    | INSERT\ INTO\ (?!.*\ DO\ UPDATE\ ).*
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CREATE_TABLE = re.compile(
    rf"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?({_NAME})\b", re.IGNORECASE
)
_CREATE_UNIQUE = re.compile(
    rf"CREATE UNIQUE INDEX (?:CONCURRENTLY )?(?:IF NOT EXISTS )?{_NAME} ON ({_NAME})\b",
    re.IGNORECASE,
)
_ALTER_TABLE = re.compile(rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?({_NAME}) (.*)", re.IGNORECASE)
_ADD_COLUMN = re.compile(rf"ADD COLUMN (?:IF NOT EXISTS )?{_NAME} (.*)", re.IGNORECASE)
_LOOSEN = re.compile(rf"ALTER (?:COLUMN )?{_NAME} (?:DROP NOT NULL|SET DEFAULT .*)", re.IGNORECASE)
_RETYPE = re.compile(
    rf"ALTER (?:COLUMN )?({_NAME}) (?:SET DATA )?TYPE ([\w ]+(?:\([\d, ]+\))?)", re.IGNORECASE
)


def _only_adds(statement: str, column_type: ColumnType, created: set[str]) -> bool:
    if match := _CREATE_TABLE.match(statement):
        created.add(match[1])
        return True
    if match := _CREATE_UNIQUE.match(statement):
        return match[1] in created
    if match := _ALTER_TABLE.fullmatch(statement):
        table, actions = match[1], match[2]
        return table in created or all(
            _loosens(action, table, column_type) for action in _split(actions)
        )
    return _ADDING.fullmatch(statement) is not None


def _loosens(action: str, table: str, column_type: ColumnType) -> bool:
    """Return whether an action of ALTER TABLE changes no row and refuses no later row."""
    if match := _ADD_COLUMN.fullmatch(action):
        column = f" {match[1].upper()} "
        demands = " NOT NULL " in column and " DEFAULT " not in column
        return not demands and not re.search(r" (?:UNIQUE|PRIMARY|CHECK) ?", column)
    if match := _RETYPE.fullmatch(action):
        return _widens(column_type(table, match[1]), match[2])
    return _LOOSEN.fullmatch(action) is not None


def _split(actions: str) -> Iterator[str]:
    """The actions of an ALTER TABLE, separated by commas outside parentheses."""
    depth = start = 0
    for place, char in enumerate(actions):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            yield actions[start:place].strip()
            start = place + 1
    yield actions[start:].strip()


_TYPE = re.compile(r"([a-z ]+?) ?(?:\((\d+)(?:, ?(\d+))?\))?")
_SPELLINGS = {"varchar": "character varying", "int": "integer", "decimal": "numeric"}


def _widens(old: str | None, new: str) -> bool:
    """Return whether every value of the old type is a value of the new type."""
    before, after = _TYPE.fullmatch((old or "").lower()), _TYPE.fullmatch(new.lower().strip())
    if before is None or after is None:
        return False
    old_name, new_name = (_SPELLINGS.get(match[1], match[1]) for match in (before, after))
    limits = [tuple(int(n) if n else None for n in match.groups()[1:]) for match in (before, after)]
    if (old_name, new_name) in {("integer", "bigint"), ("character varying", "text")}:
        return True
    if old_name != new_name:
        return False
    (old_first, old_scale), (new_first, new_scale) = limits
    if new_first is None or limits[0] == limits[1]:
        return True
    if old_first is None:
        return False
    extra, extra_scale = new_first - old_first, (new_scale or 0) - (old_scale or 0)
    return extra_scale >= 0 and extra >= extra_scale


def _unquote(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
