"""The SQL of a trigram index on a server that offers the extension."""

from __future__ import annotations

import io

from alembic import op
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from migrations import trigrams
from migrations.effects import find_hurting_statements


def test_the_extension_and_the_index_are_made_and_only_add() -> None:
    assert trigrams
    buffer = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": buffer}
    )
    with Operations.context(context):
        op.create_trigram_index("notes_text_trigram_idx", "notes", "text")  # type: ignore[attr-defined]
    assert buffer.getvalue().split("\n\n")[:2] == [
        "CREATE EXTENSION IF NOT EXISTS pg_trgm;",
        "CREATE INDEX notes_text_trigram_idx ON notes USING gin (text gin_trgm_ops);",
    ]
    assert list(find_hurting_statements(buffer.getvalue(), lambda *_: None, set())) == []
