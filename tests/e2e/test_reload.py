"""A saved change of the functions' sources is deployed immediately; a broken change is not."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fixtures.emulator import wait_until
from tests.fixtures.stack import RunningStack

_RELOADED = "· reloaded"


def save(stack: RunningStack, path: Path, text: str) -> str:
    """Save a source of the running stack; return the output since the stack reloaded it."""
    count = stack.process.said().count(_RELOADED)
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)
    wait_until(
        lambda: stack.process.said().count(_RELOADED) > count or not stack.is_running,
        f"the saved {path.name} is live",
    )
    return stack.process.said().rpartition(_RELOADED)[2]


@contextmanager
def changed(stack: RunningStack, file: str, old: str, new: str) -> Iterator[str]:
    """Change a source of the running stack, and revert it at the end; wait for each reload.

    Yields the output of the stack about the change.
    """
    path = stack.machine.root / file
    text = path.read_text()
    assert text.count(old) == 1
    count = save(stack, path, text.replace(old, new))
    try:
        yield count
    finally:
        save(stack, path, text)


def list_reloaded(output: str) -> set[str]:
    """The functions that an output of the stack names as reloaded."""
    return {
        name for names in re.findall(r"· reloaded (.+) \(", output) for name in names.split(", ")
    }


def fresh_list(stack: RunningStack) -> str | None:
    """A header of an answer from the read function, without the cache."""
    stack.flush_cache()
    return stack.send("GET", "/countries?limit=1")["Cache-Control"]


def wait_for_list(stack: RunningStack, header: str) -> None:
    """Wait until lists have the header: a save during a reload updates functions in two reloads."""
    wait_until(lambda: fresh_list(stack) == header, f"lists with {header}")


def missing_title(stack: RunningStack) -> str:
    stack.flush_cache()
    title: str = stack.send("GET", "/cities/1").json()["title"]
    return title


def test_a_saved_change_of_a_function_is_live_without_a_deployment(stack: RunningStack) -> None:
    assert fresh_list(stack) == "no-cache"
    change = ('_CACHE_CONTROL = "no-cache"', '_CACHE_CONTROL = "no-cache, private"')
    with changed(stack, "lambdas/read/lists.py", *change):
        wait_for_list(stack, "no-cache, private")
    wait_for_list(stack, "no-cache")
    assert stack.process.said().count("cdk deploy") <= 1


def test_a_saved_change_of_the_core_is_live_in_reads_and_writes(stack: RunningStack) -> None:
    change = ('"The item does not exist"', '"Nothing here"')
    before = len(stack.process.said())
    with changed(stack, "forebay/problem.py", *change):
        wait_until(lambda: missing_title(stack) == "Nothing here", "reads are reloaded")
        wait_until(
            lambda: {"read", "status", "write"} <= list_reloaded(stack.process.said()[before:]),
            "reads and writes are reloaded",
        )
    wait_until(lambda: missing_title(stack) == "The item does not exist", "it is the old code")


@pytest.mark.parametrize("mistake", ["def broken(:\n", "\0"])
def test_a_syntax_error_leaves_the_old_code_live(stack: RunningStack, mistake: str) -> None:
    path = stack.machine.root / "lambdas" / "read" / "lists.py"
    text = path.read_text()
    before = stack.process.said()
    path.write_text(text + mistake)
    try:
        wait_until(
            lambda: "not reloaded, the old code stays" in stack.process.said()[len(before) :],
            "the mistake is told",
        )
        assert "lambdas/read/lists.py" in stack.process.said()[len(before) :]
        assert fresh_list(stack) == "no-cache"
    finally:
        path.write_text(text)


def test_a_declaration_that_cannot_work_leaves_the_old_code_live(stack: RunningStack) -> None:
    path = stack.machine.root / "resources" / "countries.py"
    text = path.read_text()
    before = stack.process.said()
    path.write_text(text.replace('path="countries"', 'path="Countries"'))
    try:
        wait_until(
            lambda: "Country: path='Countries' must be" in stack.process.said()[len(before) :],
            "the mistake is told",
        )
        assert fresh_list(stack) == "no-cache"
    finally:
        path.write_text(text)
    with changed(stack, "lambdas/read/lists.py", '"no-cache"', '"no-cache, private"'):
        wait_for_list(stack, "no-cache, private")
    wait_for_list(stack, "no-cache")


MIGRATION = '''"""{title}."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    {body}
'''


@contextmanager
def saved_migration(stack: RunningStack, revision: str, body: str) -> Iterator[str]:
    """Add a migration to the running stack's checkout; yield the output of the stack about it."""
    ((before,),) = stack.as_superuser("SELECT version_num FROM forebay.resources_version")
    folder = stack.machine.root / "migrations" / "versions"
    path = folder / f"{revision}.py"
    title = f"Say {revision}"
    count = save(
        stack, path, MIGRATION.format(title=title, revision=revision, before=before, body=body)
    )
    try:
        yield count
    finally:
        stack.as_superuser(f"UPDATE forebay.resources_version SET version_num = '{before}'")
        gone = stack.process.said().count(_RELOADED)
        path.unlink()
        wait_until(lambda: stack.process.said().count(_RELOADED) > gone, "it is gone again")


def test_a_saved_migration_runs_at_once_if_it_adds_and_waits_for_a_yes_if_it_drops(
    stack: RunningStack,
) -> None:
    def tables() -> list[tuple[object, ...]]:
        return list(
            stack.as_superuser("SELECT relname::text FROM pg_class WHERE relname = 'saved_lakes'")
        )

    adding = "op.create_table('saved_lakes', sa.Column('name', sa.Text), schema='public')"
    with saved_migration(stack, "aaaa00000001", adding):
        assert tables() == [("saved_lakes",)]
        before = len(stack.process.said())
        with saved_migration(stack, "aaaa00000002", "op.drop_table('saved_lakes')"):
            output = stack.process.said()[before:]
            assert "1 migration waits for your confirmation" in output
            assert "DROP TABLE saved_lakes" in output
            assert f"make migrate PORT={stack.settings.ports.base}" in output
            assert tables() == [("saved_lakes",)]
        stack.as_superuser("DROP TABLE public.saved_lakes")
