"""Decides for each rejected command whether it can be sent again, and as what.

What would be sent is checked here against the declarations, as a client's write would be, so that
a retry does not make the next rejection. What only the database knows, it says when it applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from psycopg import sql

from forebay.apply.prepare import upcast
from forebay.codec import MAX_LINE_BYTES, decode, encode
from forebay.command import Command, Op
from forebay.db.connect import Connection
from forebay.errors import BodyError, InvalidLineError
from forebay.ids import IdSource, is_outdated, original_version
from forebay.resource.reading import BodyInvalidError
from forebay.resource.spec import ResourceSpec
from ops.rejections.placing import Placer, is_overtaken
from ops.rejections.pointer import PatchError
from ops.rejections.rules import Rule, first_match
from ops.rejections.store import Stored

Verdict = Literal[
    "ready",  # it can be sent
    "unreadable",  # the line is no command
    "no rule",  # none of the file's rules is for it
    "misfit",  # the rule's changes don't fit it
    "invalid",  # what came out is no valid item of its resource
    "overtaken",  # its key has been written since, or a create finds it taken
]
VERDICTS: tuple[Verdict, ...] = (
    "ready", "unreadable", "no rule", "misfit", "invalid", "overtaken",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attempt:
    """One rejection, and what a retry would do with it."""

    stored: Stored
    verdict: Verdict
    #: Why it can't be sent.
    reason: str | None = None
    rule: str | None = None
    #: What the rejected command was, and what would be sent instead.
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    command: Command | None = None
    line: bytes | None = None
    #: The id that the rejected command counts with: what is newer must not be undone.
    place: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """What the tables hold of a key."""

    version: str
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class _Rejected:
    """What a rule looks at."""

    resource: str
    op: str
    key: int | str
    body: dict[str, Any] | None
    code: str
    detail: str


class _NotReadyError(Exception):
    """Carries a verdict out of the steps of `Planner._attempt`."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict


class Planner:
    """Plans retries in one pass over rejections, which come in the order of their ids."""

    def __init__(
        self,
        resources: Mapping[str, ResourceSpec],
        *,
        by: str,
        ids: IdSource,
        rules: Sequence[Rule] | None,
        even_overtaken: bool = False,
    ) -> None:
        """A planner.

        Args:
            resources: the declarations, by path.
            by: the operator, as the new commands will name them.
            ids: makes the new commands' ids.
            rules: mend the commands; None sends them as they are.
            even_overtaken: the amendments win over whatever their keys hold: their ids are of
                now, and a create becomes a put.
        """
        self._resources = resources
        self._by = by
        self._placer = Placer(ids, wins=even_overtaken)
        self._rules = rules
        self._even_overtaken = even_overtaken

    def plan(self, connection: Connection, page: Sequence[Stored]) -> list[Attempt]:
        """What would become of each rejection of a page, in its order."""
        attempts = [self._attempt(stored) for stored in page]
        found = _look_up(connection, self._resources, attempts)
        return [self._unless_overtaken(attempt, found) for attempt in attempts]

    def _attempt(self, stored: Stored) -> Attempt:
        try:
            old = decode(stored.line)
        except InvalidLineError as exc:
            return Attempt(stored, "unreadable", f"the line is no command: {exc}")
        before = {"resource": old.resource, "key": old.key, "body": old.body}
        place = self._placer.place(old.id, stored.rejected_at)
        rule: Rule | None = None
        after: dict[str, Any] = before
        try:
            rule = self._rule(stored, old)
            after = self._mended(rule, before)
            new = self._new(old, after, place)
        except _NotReadyError as exc:
            name = rule.name if rule else None
            return Attempt(stored, exc.verdict, str(exc), name, before, after)
        line = encode(new)
        if len(line) > MAX_LINE_BYTES:
            reason = f"it takes {len(line)} bytes, the limit is {MAX_LINE_BYTES}"
            return Attempt(stored, "invalid", reason, None, before, after)
        after = {"resource": new.resource, "key": new.key, "body": new.body}
        name = rule.name if rule else None
        return Attempt(stored, "ready", None, name, before, after, new, line, place)

    def _rule(self, stored: Stored, old: Command) -> Rule | None:
        if self._rules is None:
            return None
        looked_at = _Rejected(old.resource, old.op, old.key, old.body, stored.code, stored.detail)
        rule = first_match(self._rules, looked_at)
        if rule is None:
            raise _NotReadyError("no rule", "no rule of the file matches it")
        return rule

    def _mended(self, rule: Rule | None, before: dict[str, Any]) -> dict[str, Any]:
        if rule is None:
            return before
        try:
            return rule.mended(before)
        except PatchError as exc:
            raise _NotReadyError("misfit", str(exc)) from None

    def _new(self, old: Command, document: Mapping[str, Any], place: str) -> Command:
        """The command that is sent instead."""
        spec = self._resources.get(document["resource"])
        if spec is None:
            raise _NotReadyError("invalid", f"there is no resource {document['resource']!r}")
        key, body = document["key"], document["body"]
        if not isinstance(key, int | str) or isinstance(key, bool) or not spec.fits_key(key):
            raise _NotReadyError("invalid", f"{key!r} is no key of {spec.path}")
        if old.op != "delete":
            body = _valid_body(spec, old.schema, body)
        elif body is not None:
            raise _NotReadyError("invalid", "a delete has no body")
        # A create never wins over a row.
        op: Op = "put" if self._even_overtaken and old.op == "create" else old.op
        return Command(
            id=self._placer.make_id(place, op, spec.path, key),
            op=op,
            resource=spec.path,
            key=key,
            schema=spec.schema_version,
            by=self._by,
            trace=None,
            body=body,
            amends=old.id,
        )

    def _unless_overtaken(
        self, attempt: Attempt, found: Mapping[tuple[str, str], _Found]
    ) -> Attempt:
        command = attempt.command
        there = found.get((command.resource, str(command.key))) if command is not None else None
        if command is None or there is None:
            return attempt
        if self._even_overtaken:
            # Only a row from the future still wins over an id of now.
            is_ready = is_outdated(there.version) or there.version < command.id
        else:
            is_ready = not is_overtaken(attempt.place, command.op, there.version)
        return attempt if is_ready else _overtaken(attempt, command, there)


def _overtaken(attempt: Attempt, command: Command, there: _Found) -> Attempt:
    what = "deleted" if there.is_deleted else "written"
    since = "already, and a create replaces nothing" if command.op == "create" else "since"
    return Attempt(
        attempt.stored,
        "overtaken",
        f"{command.resource} {command.key} has been {what} {since}: by {_writer(there.version)}",
        attempt.rule,
        attempt.before,
        attempt.after,
    )


def _valid_body(spec: ResourceSpec, schema: int, body: object) -> dict[str, Any]:
    """The body brought up to the current schema version and validated as a client's would be."""
    if not isinstance(body, dict):
        raise _NotReadyError("invalid", "the body is no object")
    probe = Command("", "put", spec.path, "", min(schema, spec.schema_version), "", None, body)
    try:
        current = upcast(probe, spec).body
        return spec.body.read(orjson.dumps(current)).body
    except BodyError as exc:
        raise _NotReadyError("invalid", str(exc)) from None
    except BodyInvalidError as exc:
        raise _NotReadyError("invalid", str(exc)) from None


def _look_up(
    connection: Connection, resources: Mapping[str, ResourceSpec], attempts: Iterable[Attempt]
) -> dict[tuple[str, str], _Found]:
    """What the tables hold of the keys that are to be written, by resource and key as text."""
    keys: dict[str, list[str]] = {}
    for attempt in attempts:
        if attempt.command is not None:
            keys.setdefault(attempt.command.resource, []).append(str(attempt.command.key))
    found: dict[tuple[str, str], _Found] = {}
    for path, wanted in keys.items():
        spec = resources[path]
        graves = connection.execute(_GRAVES, [path, wanted]).fetchall()
        found |= {(path, key): _Found(version, is_deleted=True) for key, version in graves}
        rows = connection.execute(
            _ROWS.format(
                table=sql.Identifier("public", spec.table),
                key=sql.Identifier(spec.key.name),
                type=sql.SQL(_ARRAY_TYPES.get(spec.key.sql_type, "text[]")),
            ),
            [wanted],
        ).fetchall()
        found |= {(path, key): _Found(version, is_deleted=False) for key, version in rows}
    return found


def _writer(version: str) -> str:
    """The command that wrote a row, as far as its version names it."""
    original = original_version(version)
    return "a command that its outdated row does not name" if is_outdated(original) else original


_ARRAY_TYPES = {"integer": "integer[]", "bigint": "bigint[]", "uuid": "uuid[]"}
_GRAVES = """
    SELECT key, version::text FROM forebay.tombstones WHERE resource = %s AND key = ANY(%s)
"""
_ROWS = sql.SQL("""
    SELECT {key}::text, _version::text FROM {table}
    WHERE {key} = ANY(%s::text[]::{type})
""")
