"""Compare `forebay.edits`, which has the patches of each key, with what the archive requires."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple, Self

from psycopg import sql

from forebay.apply.edits.state import KeyState
from forebay.codec import decode
from forebay.command import Target
from forebay.db.connect import Connection
from forebay.decisions.rejections import truncate_keys
from forebay.errors import InvalidLineError
from forebay.ids import is_outdated
from forebay.resource.spec import ResourceSpec, find_retired
from ops.folding.fold import Winners
from ops.folding.partition import Kind, Writer
from ops.verify.compare import Findings

TABLE: Final = "forebay.edits"
_PAGE: Final = 1_000
_ABSENT: Final = "absent"
_NO_COMMAND: Final = "this key has no such patch"

#: A resource's path, and a key as text.
_Place = tuple[str, str]


class _Edits(NamedTuple):
    """The columns of a row that must equal those of the archive."""

    #: By field, the id of the patch.
    fields: Mapping[str, str]
    #: Ids of the kept patches, ascending.
    kept: Sequence[str]
    tag: str | None
    waiting: int
    oldest: str | None

    @classmethod
    def of_state(cls, state: KeyState | None) -> Self | None:
        """The row that a state requires; None if it requires none."""
        if state is None or state.is_plain:
            return None
        waiting = state.list_waiting()
        tag = state.state_tag if state.fields else None
        oldest = waiting[0] if waiting else None
        return cls(state.fields, sorted(state.kept), tag, len(waiting), oldest)

    @classmethod
    def of_columns(cls, columns: Sequence[Any]) -> Self | None:
        """The row in the database; None if it has no compared member."""
        fields, kept, tag, waiting, oldest = columns
        if not fields and not kept:
            return None
        if not isinstance(fields, dict):
            fields = {"(damaged)": str(fields)}
        return cls(fields, sorted(map(_read_id, kept)), tag, waiting, oldest)

    @property
    def ids(self) -> set[str]:
        """The ids of all patches."""
        return {*map(str, self.fields.values()), *self.kept}

    def __str__(self) -> str:
        parts = [f"{name} from {patch_id}" for name, patch_id in sorted(self.fields.items())]
        if self.kept:
            parts.append(f"{', '.join(self.kept)} kept, {self.waiting} waiting")
        return "; ".join([*parts, f"tag {self.tag}"])


@dataclass(slots=True)
class EditsCheck:
    """One comparison of all keys with patches."""

    connection: Connection
    resources: Mapping[str, ResourceSpec]
    cut: str
    findings: Findings
    in_archive: int = 0
    in_database: int = 0
    #: Keys that commands after the cut have changed.
    changed_since: int = 0
    differing: int = 0

    def add_rows(self, writer: Writer) -> None:
        """Write the database's rows into a partition."""
        last: _Place = ("", "")
        while page := self.connection.execute(_READ, [*last, _PAGE]).fetchall():
            last = (page[-1][0], page[-1][1])
            keys = truncate_keys([row[1] for row in page])
            size_bytes = sum(len(str(row)) for row in page)
            writer.add_all(Kind.EDITS, zip(keys, page, strict=True), size_bytes=size_bytes)

    def compare(self, winners: Winners) -> None:
        """Compare every key of a bucket that has patches in the archive or in the database."""
        expected = {
            (path, str(key)): _Edits.of_state(state) for (path, key), state in winners.edits.items()
        }
        stored_edits = {
            (path, key): edits
            for path, key, *columns in winners.edits_in_database
            if (edits := _Edits.of_columns(columns)) is not None
        }
        self.in_archive += len(expected)
        self.in_database += len(stored_edits)
        retired = find_retired(self.resources)
        targets = {(path, str(key)): (path, key) for path, key in winners.edits}
        targets |= {(path, str(key)): (path, key) for path, key in winners.maybe_applied}
        differing = [
            place
            for place in sorted(expected.keys() | stored_edits.keys())
            if expected.get(place) != stored_edits.get(place) and place[0] not in retired
        ]
        for place, now in self._read_again(differing):
            target = targets.get(place, place)
            self._judge(place, expected.get(place), now, winners, target)

    def list_newer(self) -> Iterator[tuple[str, str, str]]:
        """Yield resource, key and id of each patch that is newer than the cut."""
        last: _Place = ("", "")
        while page := self.connection.execute(_READ, [*last, _PAGE]).fetchall():
            for path, key, *columns in page:
                edits = _Edits.of_columns(columns)
                if edits is not None:
                    yield from ((path, key, id_) for id_ in sorted(edits.ids) if id_ > self.cut)
            last = (page[-1][0], page[-1][1])

    def report_unknown(self, path: str, key: str, patch_id: str) -> None:
        """Report a patch that the archive does not have."""
        self._report((path, key), _NO_COMMAND, patch_id)

    def _read_again(self, places: Iterable[_Place]) -> Iterator[tuple[_Place, _Now]]:
        """Yield the present states of keys."""
        remaining = iter(places)
        while page := list(islice(remaining, _PAGE)):
            for path in sorted({path for path, _ in page}):
                keys = [key for each, key in page if each == path]
                spec = self.resources.get(path)
                if spec is None:
                    yield from (((path, key), _Now(None)) for key in keys)
                    continue
                rows = self.connection.execute(_build_query(spec), [keys, path, path]).fetchall()
                for key, version, tombstone, *columns in rows:
                    edits = None if columns[0] is None else _Edits.of_columns(columns)
                    yield (path, key), _Now(edits, version, tombstone)

    def _judge(
        self,
        place: _Place,
        expected: _Edits | None,
        now: _Now,
        winners: Winners,
        target: tuple[str, Any],
    ) -> None:
        if place[0] not in self.resources:
            self._report(place, "the resource is not declared", "a row")
        elif now.edits == expected or (now.version and is_outdated(now.version)):
            return  # an outdated row has no patches until a replay; it is itself a difference
        elif any(id_ > self.cut for id_ in now.ids):
            self.changed_since += 1
        elif not self._is_explained(now, winners, target):
            self._report(place, str(expected or _ABSENT), str(now.edits or _ABSENT))

    def _is_explained(self, now: _Now, winners: Winners, target: Target) -> bool:
        """Return whether commands that the ledger does not call applied yet explain the state."""
        state, used = winners.add_maybe_applied(target, now.ids)
        if not used or _Edits.of_state(state) != now.edits:
            return False
        self.findings.ahead.update(winners.object_of[command.id] for command in used)
        return True

    def _report(self, place: _Place, archive: str, database: str) -> None:
        self.differing += 1
        self.findings.add(TABLE, " ".join(place), archive, database)


@dataclass(frozen=True, slots=True)
class _Now:
    """The present state of a key."""

    edits: _Edits | None
    version: str | None = None
    tombstone: str | None = None

    @property
    def ids(self) -> set[str]:
        """The ids of all commands in this state."""
        own = {self.version, self.tombstone} - {None}
        return {str(id_) for id_ in own} | (self.edits.ids if self.edits else set())


def _read_id(line: str) -> str:
    try:
        return decode(line.encode()).id
    except InvalidLineError as exc:
        return f"an invalid line ({exc})"


def _build_query(spec: ResourceSpec) -> sql.Composed:
    return _READ_NOW.format(
        table=sql.Identifier("public", spec.table),
        column=sql.Identifier(spec.key.name),
        type=sql.SQL(spec.key.sql_type),
    )


_READ = """
    SELECT resource, key, fields, kept, tag, waiting, oldest::text FROM forebay.edits
    WHERE (resource, key) > (%s, %s) ORDER BY resource, key LIMIT %s
"""
_READ_NOW = sql.SQL("""
    SELECT k.key, r._version::text, d.version::text,
           e.fields, e.kept, e.tag, e.waiting, e.oldest::text
    FROM unnest(%s::text[]) AS k (key)
    LEFT JOIN forebay.edits AS e ON e.resource = %s AND e.key = k.key
    LEFT JOIN forebay.tombstones AS d ON d.resource = %s AND d.key = k.key
    LEFT JOIN {table} AS r
      ON r.{column} = CASE WHEN pg_input_is_valid(k.key, '{type}') THEN k.key::{type} END
""")
