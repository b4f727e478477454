"""Compare the winners of a bucket with the tables, and name the differences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson
import psycopg

from forebay.command import Command, Op, Target
from forebay.db.connect import Connection
from forebay.db.faults import describe_fault, is_data_fault
from forebay.ids import is_outdated
from forebay.resource.spec import Kind, ResourceSpec
from ops.cut import EVERYTHING
from ops.folding.fold import Winners
from ops.folding.partition import Bucket
from ops.verify.sql import Statements, build_row_statements, build_tombstone_statements

_ROWS = 2_000  # in one statement: about a megabyte, and little time of the server
_ABSENT = "absent"
_OUTDATED = "outdated, `forebay replay` writes it again"
_HASH = 2**64
_PATCHES = """
    SELECT f.key, f.value FROM forebay.edits AS e, jsonb_each_text(
      CASE WHEN jsonb_typeof(e.fields) = 'object' THEN e.fields ELSE '{}' END) AS f
    WHERE e.resource = %s AND e.key = %s
"""


@dataclass(slots=True)
class Digest:
    """Count and digest of rows: equal on both sides if the rows are equal."""

    rows: int = 0
    total: int = 0

    def add(self, rows: int, total: int | None) -> None:
        """Add rows, and the sum of their hashes."""
        self.rows += rows
        self.total = (self.total + int(total or 0)) % _HASH

    def __str__(self) -> str:
        return f"{self.total:016x}"


@dataclass(slots=True)
class Compared:
    """The comparison of one table."""

    name: str
    archive: Digest = field(default_factory=Digest)
    database: Digest = field(default_factory=Digest)
    #: By slice, the digests of the table's rows with keys that the archive expects.
    slices: dict[int, Digest] = field(default_factory=lambda: defaultdict(Digest))
    #: Expected keys that are not compared: commands after the cut have changed them, or the row in
    #: place of an expected tombstone is outdated and is itself a difference.
    changed_since: int = 0
    differing: int = 0

    def facts(self) -> dict[str, Any]:
        """Return the comparison for the operator."""
        return {
            "table": self.name,
            "rows_archive": self.archive.rows,
            "rows_database": self.database.rows,
            "digest_archive": str(self.archive),
            "digest_database": str(self.database),
            "changed_since_cut": self.changed_since,
            "differing": self.differing,
        }


@dataclass(slots=True)
class Findings:
    """The differences: all of them counted, the first of them named with both versions."""

    limit: int
    named: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    #: The number of differences that are rows marked by `forebay outdate`.
    outdated: int = 0
    #: Numbers of objects that the ledger does not call applied, with effects in the tables.
    ahead: set[int] = field(default_factory=set)

    def add(self, table: str, key: str, archive: str, database: str) -> None:
        """Add a difference."""
        self.total += 1
        if len(self.named) < self.limit:
            self.named.append(
                {"table": table, "key": key, "archive": archive, "database": database}
            )


class TableComparison:
    """The comparison of the rows, or of the tombstones, of one resource."""

    def __init__(
        self,
        connection: Connection,
        spec: ResourceSpec,
        cut: str,
        findings: Findings,
        *,
        tombstones: bool,
    ) -> None:
        self.spec = spec
        self.compared = Compared(
            f"forebay.tombstones ({spec.path})" if tombstones else f"public.{spec.table}"
        )
        self._tombstones = tombstones
        self._connection = connection
        self._cut = cut
        self._findings = findings
        self._sql: Statements = (
            build_tombstone_statements if tombstones else build_row_statements
        )(spec)

    def compare(self, winners: Winners) -> None:
        """Compare every key of the bucket that the archive expects in this table."""
        commands = self._filter_expected(winners.applied)
        while chunk := list(islice(commands, _ROWS)):
            self._compare(chunk, winners)

    def scan(self) -> list[int]:
        """Add the digests of the whole table; return the slices with other rows than expected."""
        slices = []
        compared = self.compared
        for number, rows, total in self._connection.execute(self._sql.scan, {"cut": self._cut}):
            digest = Digest()
            digest.add(int(rows), total)
            compared.database.add(int(rows), total)
            if compared.slices.pop(number, Digest()) != digest:
                slices.append(int(number))
        return slices

    def find_extra(self, bucket: Bucket, slices: Sequence[int], winners: Winners) -> None:
        """Report the rows of slices with keys that the archive does not expect in this table."""
        own_slices = [number for number in slices if number in bucket.slices]
        if not own_slices:
            return
        expected_keys = {
            str(target[1])
            for target, command in winners.applied.items()
            if target[0] == self.spec.path and (command.op == "delete") == self._tombstones
        }
        rows = self._connection.execute(
            self._sql.rows_of, {"cut": self._cut, "slices": own_slices}
        ).fetchall()
        for key, version in rows:
            if key not in expected_keys and bucket.holds(key):
                self._add_difference(key, None, version, winners)

    def list_newer(self) -> Iterator[tuple[str, str]]:
        """Yield keys and versions of the rows that are newer than the cut, except outdated rows."""
        with self._connection.cursor() as cursor:
            rows = cursor.stream(self._sql.newer, {"cut": self._cut})
            yield from ((key, version) for key, version in rows)

    def is_of(self, command: Command, key: str) -> bool:
        """Return whether a command can have made this table's row of that key."""
        return (
            command.resource == self.spec.path
            and str(command.key) == key
            and (command.op == "delete") == self._tombstones
        )

    def find_differing(self, commands: Sequence[Command]) -> list[tuple[str, str | None]]:
        """Return the keys with rows that differ from the commands' rows, with the rows' versions.

        If Postgres refuses a command's values, the version is the command's own.

        Args:
            commands: one command for each key, with its body as in a row.
        """
        rows = orjson.dumps([self._build_row(command) for command in commands]).decode()
        try:
            answer = self._connection.execute(
                self._sql.compare, {"rows": rows, "cut": EVERYTHING}
            ).fetchall()
        except psycopg.Error as exc:
            if not is_data_fault(exc):
                raise
            if len(commands) == 1:
                return [(str(commands[0].key), commands[0].id)]
            middle = len(commands) // 2
            return [
                *self.find_differing(commands[:middle]),
                *self.find_differing(commands[middle:]),
            ]
        return [
            pair
            for *_, keys, _, versions in answer
            for pair in zip(keys or (), versions or (), strict=True)
        ]

    def read_patches(self, key: str) -> dict[str, str]:
        """Return the ids of the patches that set values of a row, by field."""
        return dict(self._connection.execute(_PATCHES, [self.spec.path, key]).fetchall())

    def report(self, key: str, archive: str, database: str) -> None:
        """Add a difference of this table."""
        self.compared.differing += 1
        self._findings.add(self.compared.name, key, archive, database)

    def _filter_expected(self, applied: Mapping[Target, Command]) -> Iterator[Command]:
        return (
            command
            for (path, _), command in applied.items()
            if path == self.spec.path and (command.op == "delete") == self._tombstones
        )

    def _compare(self, chunk: Sequence[Command], winners: Winners) -> None:
        rows = orjson.dumps([self._build_row(command) for command in chunk]).decode()
        try:
            answer = self._connection.execute(
                self._sql.compare, {"rows": rows, "cut": self._cut}
            ).fetchall()
        except psycopg.Error as exc:
            if not is_data_fault(exc):
                raise
            self._halve(chunk, winners, exc)
            return
        self.compared.changed_since += len(chunk) - sum(int(row[1]) for row in answer)
        for (
            number,
            archive_rows,
            archive_sum,
            database_rows,
            database_sum,
            keys,
            archive_versions,
            database_versions,
        ) in answer:
            self.compared.archive.add(int(archive_rows), archive_sum)
            self.compared.slices[int(number)].add(int(database_rows), database_sum)
            for key, archive_version, database_version in zip(
                keys or (), archive_versions or (), database_versions or (), strict=True
            ):
                self._add_difference(key, archive_version, database_version, winners)

    def _halve(self, chunk: Sequence[Command], winners: Winners, error: psycopg.Error) -> None:
        """Divide a chunk that Postgres refuses, down to the command that can't have applied."""
        if len(chunk) > 1:
            middle = len(chunk) // 2
            self._compare(chunk[:middle], winners)
            self._compare(chunk[middle:], winners)
            return
        command = chunk[0]
        self._findings.add(
            self.compared.name,
            str(command.key),
            f"{command.id}, which Postgres refuses: {describe_fault(error)}",
            "no rejection",
        )
        self.compared.differing += 1

    def _build_row(self, command: Command) -> dict[str, Any]:
        if self._tombstones:
            return {"key": str(command.key), "_version": command.id}
        created = command.op == "create"
        return {
            **(command.body or {}),
            self.spec.key.name: command.key,
            "_version": command.id,
            "_by_create": created,
        }

    def _add_difference(
        self, key: str, expected: str | None, version: str | None, winners: Winners
    ) -> None:
        """Add a difference, unless a command that the ledger does not call applied explains it."""
        if self._is_explained(key, version, winners):
            return
        self.compared.differing += 1
        outdated = version is not None and is_outdated(version)
        archive, database = expected or _ABSENT, version or _ABSENT
        if expected is not None and expected == version:
            database += " with other values"
        if outdated:
            database = _OUTDATED
            self._findings.outdated += 1
        self._findings.add(self.compared.name, key, archive, database)

    def _is_explained(self, key: str, version: str | None, winners: Winners) -> bool:
        """Return whether a command that the ledger does not call applied yet explains the state."""
        try:
            value = int(key) if self.spec.key.kind is Kind.INTEGER else key
        except ValueError:
            return False  # a tombstone of a key that no command can name
        target = (self.spec.path, value)
        commands = winners.maybe_applied.get(target, [])
        if version is None:
            # The other table may have the key's newer state, which is compared there.
            contenders = [
                c for c in commands if c.op != "patch" and (c.op == "delete") != self._tombstones
            ]
            self._findings.ahead.update(winners.object_of[c.id] for c in contenders)
            return bool(contenders)
        state, used = winners.add_maybe_applied(target, {version, *self.read_patches(key).values()})
        base = state.base
        if not used or base is None or base.id != version or base.is_delete != self._tombstones:
            return False
        op: Op = "create" if base.is_create else "put"
        row_command = Command(version, op, self.spec.path, value, 1, "", None, state.values)
        rows = orjson.dumps([self._build_row(row_command)]).decode()
        row = self._connection.execute(
            self._sql.compare, {"rows": rows, "cut": self._cut}
        ).fetchone()
        if row is not None and row[5] is not None:
            return False
        self._findings.ahead.update(winners.object_of[command.id] for command in used)
        return True
