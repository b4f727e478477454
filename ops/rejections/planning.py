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

from forebay.apply.upcast import upcast
from forebay.codec import MAX_LINE_BYTES, decode, encode
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.errors import BodyError, UnreadableLine
from forebay.ids import IdSource, is_command_id
from forebay.resource.reading import BodyInvalidError
from forebay.resource.spec import ResourceSpec
from forebay.status import Traces, fate
from ops.rejections.pointer import PatchError
from ops.rejections.rules import Rule, first_match
from ops.rejections.store import Stored

Verdict = Literal[
    "ready",  # it can be sent
    "unreadable",  # the line is no command
    "no rule",  # none of the file's rules is for it
    "misfit",  # the rule's changes don't fit it
    "invalid",  # what came out is no valid item of its resource
    "overtaken",  # its key has been written since: sending it would undo that
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
    """Plans retries of one call of the tool."""

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
            even_overtaken: also those whose key has been written since.
        """
        self._resources = resources
        self._by = by
        self._ids = ids
        self._rules = rules
        self._even_overtaken = even_overtaken

    def plan(self, connection: Connection, page: Sequence[Stored]) -> list[Attempt]:
        """What would become of each rejection of a page, in its order."""
        attempts = [self._attempt(stored) for stored in page]
        if self._even_overtaken:
            return attempts
        traces = _traces(connection, self._resources, attempts)
        return [_unless_overtaken(attempt, traces) for attempt in attempts]

    def _attempt(self, stored: Stored) -> Attempt:
        try:
            old = decode(stored.line)
        except UnreadableLine as exc:
            return Attempt(stored, "unreadable", f"the line is no command: {exc}")
        before = {"resource": old.resource, "key": old.key, "body": old.body}
        rule: Rule | None = None
        after: dict[str, Any] = before
        try:
            rule = self._rule(stored, old)
            after = self._mended(rule, before)
            new = self._new(old, after)
        except _NotReadyError as exc:
            name = rule.name if rule else None
            return Attempt(stored, exc.verdict, str(exc), name, before, after)
        line = encode(new)
        if len(line) > MAX_LINE_BYTES:
            reason = f"it takes {len(line)} bytes, the limit is {MAX_LINE_BYTES}"
            return Attempt(stored, "invalid", reason, None, before, after)
        after = {"resource": new.resource, "key": new.key, "body": new.body}
        return Attempt(stored, "ready", None, rule.name if rule else None, before, after, new, line)

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

    def _new(self, old: Command, document: Mapping[str, Any]) -> Command:
        """The command that is sent instead; its id comes last, so that ids are not wasted."""
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
        return Command(
            id=self._ids.make(create=old.op == "create", after=old.id),
            op=old.op,
            resource=spec.path,
            key=key,
            schema=spec.schema_version,
            by=self._by,
            trace=None,
            body=body,
            amends=old.id,
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


def _traces(
    connection: Connection, resources: Mapping[str, ResourceSpec], attempts: Iterable[Attempt]
) -> dict[tuple[str, str], Traces]:
    """What the tables hold about the keys that are to be written, by resource and key as text."""
    keys: dict[str, list[str]] = {}
    for attempt in attempts:
        if attempt.command is not None:
            keys.setdefault(attempt.command.resource, []).append(str(attempt.command.key))
    found: dict[tuple[str, str], Traces] = {}
    for path, wanted in keys.items():
        spec = resources[path]
        graves = connection.execute(_GRAVES, [path, wanted]).fetchall()
        found |= {(path, key): Traces(tombstone=version) for key, version in graves}
        rows = connection.execute(
            _ROWS.format(
                table=sql.Identifier("public", spec.table),
                key=sql.Identifier(spec.key.name),
                type=sql.SQL(_ARRAY_TYPES.get(spec.key.sql_type, "text[]")),
            ),
            [wanted],
        ).fetchall()
        found |= {
            (path, key): Traces.of_columns(version, by_create=by_create)
            for key, version, by_create in rows
        }
    return found


def _unless_overtaken(attempt: Attempt, traces: Mapping[tuple[str, str], Traces]) -> Attempt:
    command = attempt.command
    if command is None or not is_command_id(attempt.stored.id):
        return attempt
    found = traces.get((command.resource, str(command.key)), Traces())
    if fate(attempt.stored.id, found) == "pending":
        return attempt
    version = found.row_version or found.tombstone
    what = "written" if found.row_version else "deleted"
    return Attempt(
        attempt.stored,
        "overtaken",
        f"{command.resource} {command.key} has been {what} since, by {version}",
        attempt.rule,
        attempt.before,
        attempt.after,
    )


_ARRAY_TYPES = {"integer": "integer[]", "bigint": "bigint[]", "uuid": "uuid[]"}
_GRAVES = """
    SELECT key, version::text FROM forebay.tombstones WHERE resource = %s AND key = ANY(%s)
"""
_ROWS = sql.SQL("""
    SELECT {key}::text, _version::text, _by_create FROM {table}
    WHERE {key} = ANY(%s::text[]::{type})
""")
