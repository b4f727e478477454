"""A running stack runs additive migrations; all others wait for a confirmation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
import pytest

from local import schema_changes
from local.credentials import make_secret
from local.errors import MigrationsWaitError, StateUnusableError, ToolFailedError
from local.postgres.config import OWNER
from local.schema_changes import check_before_start, migrate_running, take_over
from local.settings import LocalSettings, Ports
from migrations.chains import CORE, RESOURCES, Chain, upgrade
from migrations.effects import pending
from tests.fixtures.migrating import with_migrations_in
from tests.fixtures.pages import blocks, text_of
from tests.fixtures.postgres import PostgresServer, cloned_database

TEMPLATE = '''"""{title}."""

from alembic import op
import sqlalchemy as sa

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    {body}
'''


@dataclass
class Checkout:
    """A checkout with this test's own migrations, and its stack's database."""

    url: str
    folder: Path
    head: str
    done: list[str] = field(default_factory=list)

    def save(self, revision: str, body: str) -> None:
        text = TEMPLATE.format(
            title=f"Say {revision}", revision=revision, before=self.head, body=body
        )
        (self.folder / f"{revision}.py").write_text(text, encoding="utf-8")
        self.head = revision

    def run(self, revisions: Sequence[str]) -> None:
        upgrade(self.url, revisions, self.chains)
        self.done.extend(revisions)

    @property
    def chains(self) -> Sequence[Chain]:
        return CORE, with_migrations_in(self.folder)

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url, autocommit=True, options="-c search_path=public")

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        with self.connect() as connection:
            return connection.execute(sql.encode()).fetchall()

    def execute(self, sql: str) -> None:
        with self.connect() as connection:
            connection.execute(sql.encode())


@pytest.fixture
def checkout(
    postgres_cluster: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Checkout]:
    with cloned_database(postgres_cluster) as name:
        head = RESOURCES.read_scripts().get_current_head()
        assert head is not None
        new_checkout = Checkout(postgres_cluster.url(OWNER, name), tmp_path, head)
        new_checkout.execute("CREATE TABLE rivers (name text)")
        new_checkout.execute("INSERT INTO rivers VALUES ('Rhine'), ('Po')")

        def migrate(_url: str, revisions: Sequence[str]) -> None:
            new_checkout.run(revisions)

        monkeypatch.setattr(schema_changes, "pending", partial(pending, chains=new_checkout.chains))
        monkeypatch.setattr(schema_changes, "migrate", migrate)
        yield new_checkout


def test_a_running_stack_takes_over_a_migration_that_only_adds(checkout: Checkout) -> None:
    checkout.save("aa01", "op.create_table('lakes', sa.Column('name', sa.Text))")
    checkout.save("aa02", "op.add_column('rivers', sa.Column('length', sa.Integer))")

    assert take_over(checkout.url, checkout.run, port=8080) is None

    assert checkout.done == ["aa02"]
    assert checkout.ask("SELECT length FROM rivers") == [(None,), (None,)]


def test_a_migration_that_drops_waits_and_is_shown_with_the_rows_that_it_is_about(
    checkout: Checkout,
) -> None:
    checkout.save("aa01", "op.create_table('lakes', sa.Column('name', sa.Text))")
    checkout.save("aa02", "op.drop_table('rivers')")
    checkout.save("aa03", "op.create_table('seas', sa.Column('name', sa.Text))")

    text = take_over(checkout.url, checkout.run, port=8080)

    assert checkout.done == ["aa01"]
    assert checkout.ask("SELECT count(*) FROM rivers") == [(2,)]
    assert text is not None
    assert "make migrate\n" in text
    assert "aa02  Say aa02" in text
    assert "DROP TABLE rivers  -- 2 rows" in text


def test_a_migration_that_reads_the_database_waits(checkout: Checkout) -> None:
    checkout.save("aa01", "op.get_bind().execute(sa.text('SELECT 1')).scalar()")

    assert "can't be shown" in str(take_over(checkout.url, checkout.run, port=8080))
    assert checkout.done == []


def test_a_migration_that_cannot_be_imported_is_named(checkout: Checkout) -> None:
    checkout.save("aa01", "pass")
    (checkout.folder / "aa01.py").write_text("raise ValueError('not yet')\n")

    with pytest.raises(ToolFailedError, match="not yet"):
        take_over(checkout.url, checkout.run, port=8080)


def test_a_start_is_refused_until_waiting_migrations_are_accepted(checkout: Checkout) -> None:
    checkout.save("aa01", "op.drop_column('rivers', 'name')")

    with pytest.raises(MigrationsWaitError) as refused:
        check_before_start(checkout.url, None, port=9000)

    assert "ALTER TABLE rivers DROP COLUMN name" in str(refused.value)
    assert "make run PORT=9000 ACCEPT=aa01" in str(refused.value)
    check_before_start(checkout.url, "aa01", port=9000)


def test_a_yes_to_one_migration_is_none_to_a_later_one(checkout: Checkout) -> None:
    checkout.save("aa01", "op.drop_column('rivers', 'name')")
    checkout.save("aa02", "op.drop_table('rivers')")

    with pytest.raises(MigrationsWaitError):
        check_before_start(checkout.url, "aa01", port=8080)


def test_a_database_with_an_unknown_migration_is_reported_and_unchanged(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = checkout.head
    checkout.save("aa01", "op.add_column('rivers', sa.Column('length', sa.Integer))")
    assert take_over(checkout.url, checkout.run, port=8080) is None
    (checkout.folder / "aa01.py").unlink()
    checkout.head = before
    checkout.save("aa02", "op.create_table('lakes', sa.Column('name', sa.Text))")
    monkeypatch.setattr(schema_changes, "locate_primary", lambda _settings: Primary(checkout.url))

    message = "a migration that is not in migrations/versions"
    assert message in str(take_over(checkout.url, checkout.run, port=8080))
    assert message in str(check_before_start(checkout.url, None, port=8080))
    assert (
        migrate_running(LocalSettings(checkout.folder, Ports.from_base(8080)), None, lambda: "y")
        == 1
    )
    assert message in capsys.readouterr().out
    assert checkout.done == ["aa01"]


def test_waiting_migrations_are_shown_as_on_the_page(checkout: Checkout) -> None:
    """With the statement and the rows of this test in the place of the page's."""
    (shown,) = (block for block in blocks(text_of("docs/migrations.md"), "") if "· " in block)
    checkout.save("aa01", "op.drop_table('rivers')")
    text = take_over(checkout.url, checkout.run, port=8080)
    expected = (
        shown.removeprefix("· ")
        .replace("a1b2c3d4e5f6  Drop cities.", "aa01  Say aa01.")
        .replace("DROP TABLE cities  -- 34,006 rows", "DROP TABLE rivers  -- 2 rows")
    )
    assert f"{text}\n" == expected


def test_a_database_that_was_never_migrated_holds_nothing_to_hurt(checkout: Checkout) -> None:
    checkout.save("aa01", "op.drop_table('rivers')")
    checkout.execute("DROP TABLE forebay.alembic_version, forebay.resources_version")

    check_before_start(checkout.url, None, port=8080)


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("\n", 1), ("no\n", 1)])
def test_make_migrate_runs_waiting_migrations_after_a_confirmation(
    checkout: Checkout,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
    code: int,
) -> None:
    checkout.save("aa01", "op.drop_table('rivers')")
    monkeypatch.setattr(schema_changes, "locate_primary", lambda _settings: Primary(checkout.url))

    done = migrate_running(
        LocalSettings(checkout.folder, Ports.from_base(8080)), None, lambda: typed
    )

    assert done == code
    assert "DROP TABLE rivers  -- 2 rows" in capsys.readouterr().out
    assert checkout.ask("SELECT count(*) FROM pg_class WHERE relname = 'rivers'") == [(code,)]


def test_make_migrate_without_a_running_stack_is_an_error_with_the_next_step(
    tmp_path: Path,
) -> None:
    settings = LocalSettings(tmp_path, Ports.from_base(1))
    with pytest.raises(StateUnusableError, match="start the stack once"):
        migrate_running(settings, None, lambda: "y")

    make_secret(settings.secret)
    with pytest.raises(
        ToolFailedError, match="the database of the stack on port 1 does not respond"
    ):
        migrate_running(settings, None, lambda: "y")


@dataclass
class Primary:
    """A primary that is given by its URL."""

    address: str

    def url(self) -> str:
        return self.address
