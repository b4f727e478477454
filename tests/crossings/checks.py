"""Invariants of archive and databases; each check reports the violating command or object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from forebay.codec import decode
from forebay.command import Command
from forebay.errors import InvalidLineError
from tests.crossings.commands import ANY, Draw
from tests.crossings.databases import Database
from tests.crossings.releases import LAST, RELEASES
from tests.crossings.s3 import FakeS3

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
    commands = [one for one in commands_of(s3).values() if one.id not in rejected]
    rows, tombstones = fold(commands)
    versions, buried = database.versions(), database.tombstones()
    _compare(f"{name}: row", {at: one.id for at, one in rows.items()}, versions, rejected)
    _compare(f"{name}: tombstone", tombstones, buried, rejected)
    for path, spec in RELEASES[LAST].items():
        query = f"SELECT to_jsonb(t)::text FROM public.{spec.table} AS t"
        for (text,) in database.rows(query):
            row = orjson.loads(text)
            command = rows[path, str(row[spec.key.name])]
            body = {**(command.body or {}), spec.key.name: command.key}
            if {field: row[field] for field in body} != body:
                raise ViolationError(f"{name}: {row} is not what {command} says")


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


def fold(
    commands: Sequence[Command],
) -> tuple[dict[tuple[str, str], Command], dict[tuple[str, str], str]]:
    """Law 2 in ten lines: the winners that produce rows, and the ids of deletes."""
    rows: dict[tuple[str, str], Command] = {}
    tombstones: dict[tuple[str, str], str] = {}
    for at in {(one.resource, str(one.key)) for one in commands}:
        of_key = [one for one in commands if (one.resource, str(one.key)) == at]
        strong = {one.id: one for one in of_key if one.op != "create"}
        weak = {one.id: one for one in of_key}
        winner = strong[max(strong)] if strong else weak[min(weak)]
        if winner.op == "delete":
            tombstones[at] = winner.id
        else:
            rows[at] = winner
    return rows, tombstones


def _compare(
    what: str,
    expected: Mapping[tuple[str, str], str],
    found: Mapping[tuple[str, str], str],
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
