"""A tree with the user's own files takes a newer Forebay by a merge without conflicts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from lambdas.migrate.app import migrate
from local.postgres.config import OWNER
from local.settings import ROOT
from migrations.chains import upgrade
from migrations.effects import pending
from tests.fixtures.pages import blocks, text_of
from tests.fixtures.postgres import PostgresServer, empty_database
from tests.fixtures.project import replace_user_files

_SOURCES = ("forebay", "lambdas", "local", "devtools", "infra", "migrations", "resources", "docs")
_FILES = ("alembic.ini", "pyproject.toml", ".gitattributes", "CHANGELOG.md")
_MIGRATION = '''"""Add a table."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    op.create_table("{table}", sa.Column("name", sa.Text), schema="{schema}")
'''


class Tree:
    """A git repository with a copy of the checkout's sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns("__pycache__")
        for name in _SOURCES:
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        for name in _FILES:
            shutil.copy(ROOT / name, folder)
        replace_user_files(folder)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("Release one")

    def git(self, *words: str) -> str:
        identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
        command = ["git", *identity, "-c", "commit.gpgsign=false", *words]
        process = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, (words, process.stdout, process.stderr)
        return process.stdout

    def commit(self, subject: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", subject)

    def replace(self, name: str, old: str, new: str) -> None:
        """Replace a text in a file."""
        file = self.folder / name
        text = file.read_text(encoding="utf-8")
        assert old in text, (name, old)
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    def run(self, *arguments: str, **variables: str) -> str:
        """Run Python in the tree; it must succeed."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder), **variables}
        process = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        return process.stdout


def newest_revision(folder: Path) -> str:
    """The newest revision of the migrations in a folder: no other one follows it."""
    texts = [file.read_text(encoding="utf-8") for file in folder.glob("*.py")]
    revisions = [text.split('\nrevision = "')[1].partition('"')[0] for text in texts]
    (newest,) = (
        one for one in revisions if not any(f'down_revision = "{one}"' in t for t in texts)
    )
    return newest


def add_migration(tree: Tree, folder: str, revision: str, table: str, schema: str) -> None:
    """Add a migration that creates a table."""
    versions = tree.folder / "migrations" / folder
    text = _MIGRATION.format(
        revision=revision, before=newest_revision(versions), table=table, schema=schema
    )
    (versions / f"20270101_0000_{table}.py").write_text(text, encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A tree in which a user has added a resource, and the branch `release` a newer Forebay."""
    new_tree = Tree(tmp_path / "checkout")
    new_tree.git("branch", "release")
    (river,) = (text for text in blocks(text_of("docs/resources.md"), "python") if "River" in text)
    (new_tree.folder / "resources" / "rivers.py").write_text(river, encoding="utf-8")
    add_migration(new_tree, "versions", "aaaa00000001", "rivers", "public")
    new_tree.replace("infra/environments/dev.toml", "\n", "\n# Ours.\n")
    new_tree.run("-m", "devtools", "openapi")
    new_tree.commit("Add rivers")

    new_tree.git("checkout", "--quiet", "release")
    add_migration(new_tree, "core", "bbbb00000001", "more", "forebay")
    new_tree.replace("forebay/errors.py", '"""', '"""Newer. ')
    new_tree.replace("CHANGELOG.md", "## Unreleased\n", "## Unreleased\n\n## 1.0.0\n")
    document = new_tree.folder / "docs" / "openapi.json"
    lines = document.read_text(encoding="utf-8").splitlines(keepends=True)
    document.write_text("".join([*lines[:40], '  "x-newer": true,\n', *lines[40:]]))
    new_tree.commit("Release two")
    new_tree.git("checkout", "--quiet", "main")
    return new_tree


def test_a_newer_forebay_merges_without_conflicts_and_migrates_along_both_chains(
    tree: Tree, postgres_cluster: PostgresServer
) -> None:
    with empty_database(postgres_cluster) as name:
        url = postgres_cluster.url(OWNER, name)
        migrate = "import sys; from migrations.chains import upgrade; upgrade(sys.argv[1])"
        tree.run("-c", migrate, url)
        before = tables(url)
        assert {"public.rivers", "forebay.ledger"} <= before

        tree.git("merge", "--quiet", "-m", "Take release two", "release")
        tree.run("-c", migrate, url)
        assert tables(url) - before == {"forebay.more"}
        tree.run("-m", "devtools", "openapi")
        tree.run("-m", "devtools", "openapi", "--check")


def test_a_database_of_the_single_chain_gets_the_missing_tables_only(
    postgres_cluster: PostgresServer,
) -> None:
    """Its tables of resources were created by the pipeline's first migration."""
    with empty_database(postgres_cluster) as name:
        url = postgres_cluster.url(OWNER, name)
        upgrade(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE VIEW names AS SELECT name FROM countries")
            connection.execute("DROP TABLE forebay.resources_version")
        assert [migration.hurting for migration in pending(url)] == [()]
        assert migrate(url) == "migrated"
        assert pending(url) == []
        with psycopg.connect(url) as connection:
            connection.execute("SELECT FROM names")


def tables(url: str) -> set[str]:
    """The tables of both schemas."""
    query = "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname !~ '^(pg_|info)'"
    with psycopg.connect(url) as connection:
        return {str(name) for (name,) in connection.execute(query.encode()).fetchall()}
