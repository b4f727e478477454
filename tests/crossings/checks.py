"""Invariants of archive and databases; each check reports the violating command or object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from forebay.codec import decode
from forebay.command import Command
from forebay.errors import InvalidLineError
from tests.crossings.commands import ANY, Draw
from tests.crossings.databases import Database
from tests.crossings.releases import LAST, RELEASES
from tests.crossings.s3 import FakeS3
from tests.fixtures.edits import Decisions, Item
from tests.fixtures.edits import fold as fold_keys

_COMMANDS = "commands/"


class ViolationError(AssertionError):
    """A law is violated; the message names the law, the command and the object."""


def lines_of(s3: FakeS3) -> dict[str, list[bytes]]:
    """The lines of each command object, as it was first written."""
    return {
        key: versions[0].text.encode().splitlines(keepends=True)
        for key, versions in s3.versions.items()
        if key.startswith(_COMMANDS)
    }


def commands_of(s3: FakeS3) -> dict[str, Command]:
    """Every command in the archive, by id."""
    versions_by_key: dict[str, Command] = {}
    for lines in lines_of(s3).values():
        for line in lines:
            try:
                command = decode(line)
            except InvalidLineError:
                continue
            versions_by_key[command.id] = command
    return versions_by_key


def check_archive(s3: FakeS3) -> None:
    """Check that no archive object has changed."""
    for key, first, other in s3.changed():
        raise ViolationError(
            f"the archive object {key} changed\n  {first.writer} wrote: {first.text}\n"
            f"  {other.writer} wrote: {other.text}"
        )


def check_writers(s3: FakeS3, name: str) -> None:
    """Check that an operator on a database without the archive's ownership wrote no objects."""
    for key, versions in s3.versions.items():
        for version in versions:
            if version.writer.startswith(name):
                raise ViolationError(
                    f"the archive object {key} was written by the {version.writer}, whose "
                    f"database is not the archive's own: {version.text}"
                )


def check_outcomes(database: Database, name: str, s3: FakeS3) -> None:
    """Check that no command is both applied and rejected."""
    rejected = database.rejections()
    for (path, key), version in {**database.versions(), **database.tombstones()}.items():
        if version in rejected:
            raise ViolationError(
                f"{name}: command {version} is both applied ({path} {key}) and rejected "
                f"({rejected[version]}); it is in {', '.join(_objects_with(s3, version))}"
            )


def check_reasons(database: Database, name: str, draw: Draw) -> None:
    """Check that the code of every rejection is possible for its command."""
    for rejected, code in database.rejections().items():
        allowed = draw.allowed(rejected)
        if allowed.isdisjoint(ANY | {code}):
            raise ViolationError(
                f"{name}: {draw.drawn[rejected]} is rejected with {code}; "
                f"possible is only {sorted(allowed) or 'that it applies'}"
            )


def check_content(database: Database, name: str, s3: FakeS3) -> None:
    """Check that the tables equal the fold of all commands that were not rejected (law 2)."""
    rejected = database.rejections()
    items = fold(commands_of(s3).values(), Decisions(set(rejected), database.effects()))
    versions, buried = database.versions(), database.tombstones()
    rows = {at: item.base for at, item in items.items() if item.values is not None}
    tombstones = {at: item.tombstone for at, item in items.items() if item.tombstone is not None}
    edits = {
        at: (item.fields, {id_: sorted(names) for id_, names in item.kept.items()})
        for at, item in items.items()
        if item.fields or item.kept
    }
    _compare(f"{name}: row", rows, versions, rejected)
    _compare(f"{name}: tombstone", tombstones, buried, rejected)
    _compare(f"{name}: patches of", edits, database.edits(), rejected)
    for path, spec in RELEASES[LAST].items():
        query = f"SELECT to_jsonb(t)::text FROM public.{spec.table} AS t"
        for (text,) in database.rows(query):
            row = orjson.loads(text)
            key = row[spec.key.name]
            item = items[path, str(key)]
            body = {**(item.values or {}), spec.key.name: key}
            if {field: row[field] for field in body} != body:
                raise ViolationError(f"{name}: {row} is not what {item} says")


def check_ledger(database: Database, name: str, s3: FakeS3) -> None:
    """Check that every object is completely applied, and that its counts add up."""
    ledger = database.ledger()
    for key, lines in lines_of(s3).items():
        row = ledger.get(key)
        if row is None or row["completed_at"] is None:
            raise ViolationError(f"{name}: the object {key} is not applied: {row}")
        counted = sum(row[it] for it in ("applied", "superseded", "duplicates", "rejected"))
        if not counted == row["lines"] == len(lines):
            raise ViolationError(f"{name}: {key} has {len(lines)} lines, the ledger counts {row}")


def check_same(
    expected: Mapping[str, bytes], found: Mapping[str, bytes], names: tuple[str, str]
) -> None:
    """Check that two databases hold the same rows, byte for byte."""
    for table, rows in expected.items():
        if rows != found[table]:
            ours, theirs = set(rows.splitlines()), set(found[table].splitlines())
            raise ViolationError(
                f"{table} differs:\n  only in {names[0]}: {_shown(ours - theirs)}\n"
                f"  only in {names[1]}: {_shown(theirs - ours)}"
            )


def fold(commands: Iterable[Command], decisions: Decisions) -> dict[tuple[str, str], Item]:
    """The state of each key, by resource and key."""
    by_path: dict[str, list[Command]] = {}
    for command in commands:
        by_path.setdefault(command.resource, []).append(command)
    return {
        (path, str(key)): item
        for path, of_path in by_path.items()
        for key, item in fold_keys(of_path, decisions).items()
    }


def _compare(
    what: str,
    expected: Mapping[tuple[str, str], object],
    found: Mapping[tuple[str, str], object],
    rejected: Mapping[str, str],
) -> None:
    for at in sorted({*expected, *found}):
        if expected.get(at) != found.get(at):
            raise ViolationError(
                f"{what} {' '.join(at)} is {found.get(at)}, the commands that are not rejected "
                f"come to {expected.get(at)} (rejected: {dict(rejected)})"
            )


def _objects_with(s3: FakeS3, command_id: str) -> Iterator[str]:
    for key, versions in s3.versions.items():
        if any(command_id in version.text for version in versions):
            yield key


def _shown(rows: set[bytes]) -> Any:
    return [row.decode(errors="replace") for row in sorted(rows)] or "nothing"
