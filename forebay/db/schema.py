"""The tables: resource tables in `public`, the pipeline's own in `forebay`; read by Alembic."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from forebay.resource.marks import Indexed
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

PIPELINE_SCHEMA = "forebay"
#: The operator class of the extension pg_trgm, which some servers lack.
TRIGRAM_OPERATORS = "gin_trgm_ops"
_MAX_IDENTIFIER = 63

NAMING = {
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}


def metadata(resources: Mapping[str, ResourceSpec]) -> sa.MetaData:
    """Every table, made from the declarations."""
    tables = sa.MetaData(naming_convention=NAMING)
    for spec in resources.values():
        _add_resource_table(tables, spec, resources)
    _add_pipeline_tables(tables)
    return tables


def list_index_names(resources: Mapping[str, ResourceSpec]) -> dict[str, list[str]]:
    """The names of the indexes and constraints that each resource declares, by its path."""
    tables = metadata(resources).tables
    return {path: _list_names(tables[spec.table]) for path, spec in resources.items()}


def _list_names(table: sa.Table) -> list[str]:
    # The compiler applies the naming convention, to constraints and indexes alike.
    preparer = pg.dialect().identifier_preparer  # type: ignore[no-untyped-call]
    constraints = [c for c in table.constraints if not isinstance(c, sa.PrimaryKeyConstraint)]
    names = [preparer.format_constraint(item) for item in constraints]
    names += [preparer.format_index(item) for item in table.indexes]
    return sorted(name for name in names if name is not None)


def _add_resource_table(
    tables: sa.MetaData, spec: ResourceSpec, resources: Mapping[str, ResourceSpec]
) -> None:
    columns = [_build_column(spec.key, primary_key=True)]
    columns += [_build_column(field) for field in spec.fields]
    columns += [
        sa.Column("_version", pg.UUID, nullable=False, comment="Id of the command that made it so"),
        sa.Column("_by_create", sa.Boolean, nullable=False, comment="That command was a create"),
    ]
    table = sa.Table(spec.table, tables, *columns, comment=spec.description or None)
    for field in spec.fields:
        if field.unique:
            table.append_constraint(sa.UniqueConstraint(table.c[field.name]))
        elif field.indexed:
            sa.Index(None, table.c[field.name])
        for mark in field.indexes:
            _add_gin_index(table, field, mark)
        if field.references and field.references.enforced:
            target = resources[field.references.path]
            table.append_constraint(
                sa.ForeignKeyConstraint([field.name], [f"{target.table}.{target.key.name}"])
            )
    for index in spec.indexes:
        sa.Index(None, *(table.c[name] for name in index.columns), unique=index.unique)


def _add_gin_index(table: sa.Table, field: FieldSpec, mark: Indexed) -> None:
    column = table.c[field.name]
    name = f"{table.name}_{field.name}_{mark.purpose}"
    if mark.purpose == "search":
        # The same expression as the read function's `fts(english)`; see
        # lambdas/read/sql/conditions.py.
        words = sa.text(f"to_tsvector('{mark.language}', \"{field.name}\")")
        name = _shorten_identifier(f"{name}_{mark.language}_idx")
        sa.Index(name, words, postgresql_using="gin", _table=table)
        return
    operators = TRIGRAM_OPERATORS if mark.purpose == "trigram" else "jsonb_path_ops"
    sa.Index(
        _shorten_identifier(f"{name}_idx"),
        column,
        postgresql_using="gin",
        postgresql_ops={field.name: operators},
    )


def _shorten_identifier(name: str) -> str:
    """The name; if Postgres would truncate it, its beginning with a digest."""
    if len(name) <= _MAX_IDENTIFIER:
        return name
    return f"{name[: _MAX_IDENTIFIER - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _build_column(field: FieldSpec, *, primary_key: bool = False) -> sa.Column[object]:
    return sa.Column(
        field.name,
        _choose_type(field),
        primary_key=primary_key,
        nullable=field.nullable,
        autoincrement=False,
        comment=field.description,
    )


def _choose_type(field: FieldSpec) -> sa.types.TypeEngine[Any]:
    match field.kind:
        case Kind.TEXT:
            return sa.Text() if field.max_length is None else sa.String(field.max_length)
        case Kind.INTEGER:
            return sa.Integer() if field.sql_type == "integer" else sa.BigInteger()
        case Kind.DECIMAL:
            return sa.Numeric(field.precision, field.scale)
        case _:
            return _TYPES[field.kind]


_TYPES: dict[Kind, sa.types.TypeEngine[Any]] = {
    Kind.FLOAT: pg.DOUBLE_PRECISION(),
    Kind.BOOLEAN: sa.Boolean(),
    Kind.DATE: sa.Date(),
    Kind.TIMESTAMP: sa.DateTime(timezone=True),
    Kind.UUID: pg.UUID(),
    Kind.JSON: pg.JSONB(),
}


def _build_skipped() -> sa.Column[int]:
    return sa.Column(
        "skipped",
        sa.BigInteger,
        nullable=False,
        server_default=sa.text("0"),
        comment="Commands of retired resources",
    )


_NOW: Final = sa.text("now()")
_CLOCK: Final = sa.text("clock_timestamp()")
_MOMENT: Final = sa.DateTime(timezone=True)
_COUNTS: Final = ("lines", "applied", "superseded", "duplicates", "rejected")


def _add_pipeline_tables(tables: sa.MetaData) -> None:
    _add_tombstones(tables)
    _add_rejections(tables)
    _add_decision_log(tables)
    _add_operators_decisions(tables)
    _add_edits(tables)
    _add_effects(tables)
    _add_ledger(tables)
    _add_runs(tables)
    _add_failures(tables)


def _add_tombstones(tables: sa.MetaData) -> None:
    sa.Table(
        "tombstones",
        tables,
        sa.Column("resource", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("version", pg.UUID, nullable=False, comment="Id of the delete"),
        schema=PIPELINE_SCHEMA,
        comment="What remains of deleted keys: keeps older commands from bringing them back",
    )


def _add_rejections(tables: sa.MetaData) -> None:
    sa.Table(
        "rejections",
        tables,
        sa.Column("id", pg.UUID, primary_key=True, comment="The command's id, or a line's own"),
        sa.Column("resource", sa.Text),
        sa.Column("key", sa.Text),
        sa.Column("op", sa.Text),
        sa.Column("code", sa.Text, nullable=False, comment="Stable name of the reason"),
        sa.Column("sqlstate", sa.Text),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("line", sa.LargeBinary, nullable=False, comment="The archived line"),
        sa.Column("object", sa.Text, nullable=False, comment="Archive object it was found in"),
        sa.Column("rejected_at", _MOMENT, nullable=False, server_default=_NOW),
        sa.Column(
            "slot",
            sa.BigInteger,
            comment="Number of its entry in the decision log; null: decided by this database alone",
        ),
        sa.Index(None, "resource", "key"),
        sa.Index(None, "rejected_at"),
        # Unmet rejections are as many as an application likes; the status counts the others.
        sa.Index(
            "rejections_not_unmet_idx",
            "id",
            postgresql_where=sa.text("code NOT IN ('precondition_failed', 'increment_failed')"),
        ),
        schema=PIPELINE_SCHEMA,
        comment="Commands that can never apply, and lines that are no commands",
    )


def _add_decision_log(tables: sa.MetaData) -> None:
    sa.Table(
        "decision_log",
        tables,
        sa.Column(
            "singleton", sa.Boolean, primary_key=True, server_default=sa.true(), comment="One row"
        ),
        sa.Column("database", pg.UUID, comment="Identity of this database, once it needs one"),
        sa.Column(
            "position",
            sa.BigInteger,
            nullable=False,
            comment="Entries of the log up to this number are in the table of rejections",
        ),
        sa.Column("owner", pg.UUID, comment="The database that owns the archive, by those entries"),
        sa.Column(
            "pending",
            sa.Integer,
            comment="Token of the writer that may have written the entry after that number",
        ),
        sa.Column(
            "was_owner",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="Whether this database has ever owned the archive",
        ),
        sa.CheckConstraint("singleton", name="decision_log_singleton_check"),
        schema=PIPELINE_SCHEMA,
        comment="How far this database has followed the archive's decision log",
    )


def _add_operators_decisions(tables: sa.MetaData) -> None:
    sa.Table(
        "decisions",
        tables,
        sa.Column("rejection", pg.UUID, primary_key=True, comment="Id of the rejection"),
        sa.Column("decision", sa.Text, nullable=False, comment="retried or discarded"),
        sa.Column("command", pg.UUID, comment="The command that amends the rejected one"),
        sa.Column("line", sa.LargeBinary, comment="That command's line, until it is accepted"),
        sa.Column("rule", sa.Text, comment="Name of the rule that mended it"),
        sa.Column("reason", sa.Text),
        sa.Column("by", sa.Text, nullable=False, comment="The operator"),
        sa.Column("run", pg.UUID, nullable=False, comment="Which call of the tool"),
        sa.Column("decided_at", _MOMENT, nullable=False),
        sa.Column("recorded_at", _MOMENT, comment="Null: not yet accepted and in the archive"),
        sa.Index(None, "recorded_at", postgresql_where=sa.text("recorded_at IS NULL")),
        schema=PIPELINE_SCHEMA,
        comment="What operators decided about rejections; the archive's audit/ holds the same",
    )


def _add_edits(tables: sa.MetaData) -> None:
    sa.Table(
        "edits",
        tables,
        sa.Column("resource", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column(
            "fields",
            pg.JSONB,
            nullable=False,
            comment="By field, the id of the patch whose value the row has",
        ),
        sa.Column(
            "kept",
            pg.ARRAY(sa.Text),
            nullable=False,
            comment="Lines of patches without effect, with the fields that they may set",
        ),
        sa.Column(
            "recent",
            pg.ARRAY(pg.UUID),
            nullable=False,
            comment="Ids of the last patches of which nothing is left",
        ),
        sa.Column("tag", sa.Text, comment="State tag of the item; null if no patch is in its row"),
        sa.Column("waiting", sa.Integer, nullable=False, comment="How many of `kept` wait"),
        sa.Column("oldest", pg.UUID, comment="Smallest id among those that wait"),
        sa.Index(None, "oldest", postgresql_where=sa.text("oldest IS NOT NULL")),
        schema=PIPELINE_SCHEMA,
        comment="Keys with patches: what the row has from them, and those without effect yet",
    )


def _add_effects(tables: sa.MetaData) -> None:
    sa.Table(
        "effects",
        tables,
        sa.Column("id", pg.UUID, primary_key=True, comment="The decided command's id"),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column(
            "effective_id", pg.UUID, nullable=False, comment="The id under which it takes its place"
        ),
        sa.Column(
            "body", pg.JSON, comment="The body with the sums of increments; null: as archived"
        ),
        sa.Column("schema", sa.Integer, comment="Schema version of `body`"),
        sa.Column("decided_at", _MOMENT, nullable=False),
        sa.Column(
            "slot",
            sa.BigInteger,
            comment="Number of its entry in the decision log; null: decided by this database alone",
        ),
        # Nearly all commands keep their own id as their place; the primary key finds those.
        sa.Index(None, "effective_id", postgresql_where=sa.text("effective_id <> id")),
        schema=PIPELINE_SCHEMA,
        comment="Decided commands that passed: what they came to",
    )


def _add_ledger(tables: sa.MetaData) -> None:
    sa.Table(
        "ledger",
        tables,
        sa.Column("object", sa.Text, primary_key=True, comment="Key in the archive bucket"),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTS),
        _build_skipped(),
        sa.Column("first_id", pg.UUID, comment="Smallest command id in the object"),
        sa.Column("last_id", pg.UUID, comment="Greatest command id in the object"),
        sa.Column(
            "lags",
            pg.ARRAY(sa.Integer),
            comment="Commands by the time from acceptance to applied; forebay.lag has the buckets",
        ),
        sa.Column("started_at", _MOMENT, nullable=False, server_default=_NOW),
        sa.Column("completed_at", _MOMENT, comment="Null: applied as far as `lines` says"),
        sa.Column("replays", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Index(None, "completed_at"),
        schema=PIPELINE_SCHEMA,
        comment="One row per archive object, written in the transactions that applied it",
    )


def _add_runs(tables: sa.MetaData) -> None:
    sa.Table(
        "runs",
        tables,
        sa.Column("id", pg.UUID, primary_key=True),
        sa.Column("source", sa.Text, nullable=False, comment="The archive"),
        sa.Column("selection", pg.JSONB, nullable=False, comment="Which commands it replays"),
        sa.Column("via_queue", sa.Boolean, nullable=False),
        sa.Column("state", sa.Text, nullable=False, comment="running, paused, stopped or done"),
        sa.Column("objects", sa.BigInteger, comment="How many it has, once that is known"),
        sa.Column("started_at", _MOMENT, nullable=False, server_default=_NOW),
        sa.Column("updated_at", _MOMENT, nullable=False, server_default=_NOW),
        schema=PIPELINE_SCHEMA,
        comment="Replays",
    )
    sa.Table(
        "run_objects",
        tables,
        sa.Column(
            "run",
            pg.UUID,
            sa.ForeignKey(f"{PIPELINE_SCHEMA}.runs.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("object", sa.Text, primary_key=True, comment="Key in the archive bucket"),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTS),
        _build_skipped(),
        sa.Column("error", sa.Text, comment="Why it could not be applied; null: it was"),
        sa.Column("done_at", _MOMENT, nullable=False, server_default=_CLOCK),
        schema=PIPELINE_SCHEMA,
        comment="The objects that a replay is done with: a resumed one leaves them out",
    )


def _add_failures(tables: sa.MetaData) -> None:
    sa.Table(
        "failures",
        tables,
        sa.Column("object", sa.Text, primary_key=True, comment="Key in the archive bucket"),
        sa.Column("error", sa.Text, nullable=False, comment="Why it failed the last time"),
        sa.Column("failed_at", _MOMENT, nullable=False, server_default=_CLOCK),
        sa.Column("times", sa.BigInteger, nullable=False, server_default=sa.text("1")),
        schema=PIPELINE_SCHEMA,
        comment="Objects that could not be applied, also if a later delivery applied them",
    )
