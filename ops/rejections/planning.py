"""Decide for each rejected command whether it can be sent again, and build its amendment.

Amendments are validated like a client's writes, so that a retry does not lead to another
rejection. Only the rules of the database itself are not checked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from psycopg import sql

from forebay.apply.prepare import upcast
from forebay.codec import MAX_LINE_BYTES, decode, encode
from forebay.command import Command, Op
from forebay.db.connect import Connection
from forebay.decided_commands import is_decided_command
from forebay.errors import BodyError, InvalidLineError
from forebay.ids import IdSource, is_orphaned, is_outdated, original_version
from forebay.resource.body import BodyInvalidError
from forebay.resource.spec import ResourceSpec
from forebay.unmet import PRECONDITION_FAILED
from ops.rejections.placing import Placer, is_overtaken
from ops.rejections.pointer import PatchError
from ops.rejections.rules import Rule, find_rule
from ops.rejections.store import Stored

Verdict = Literal[
    "ready",  # the amendment can be sent
    "unreadable",  # the line is invalid
    "no rule",  # no rule of the file matches
    "misfit",  # a change of the rule does not fit the command
    "invalid",  # the corrected item is not valid
    "conditional",  # its condition did not hold, or is invalid
    "overtaken",  # its key has been written since; for a create: the key has a row or tombstone
]
VERDICTS: tuple[Verdict, ...] = (
    "ready", "unreadable", "no rule", "misfit", "invalid", "conditional", "overtaken",
)  # fmt: skip
#: The codes of rejections because of the condition itself.
_OF_CONDITIONS = frozenset({PRECONDITION_FAILED, "condition_invalid"})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One rejection, and the effect of a retry."""

    stored: Stored
    verdict: Verdict
    #: The reason why it can't be sent.
    reason: str | None = None
    rule: str | None = None
    #: Resource, key and body of the rejected command and of its amendment.
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    command: Command | None = None
    line: bytes | None = None
    #: The rejected command's place among the commands of its key; see `Placer.place`.
    place: str = ""


@dataclass(frozen=True, slots=True)
class _KeyState:
    """The row or the tombstone of a key."""

    version: str
    is_deleted: bool
    #: By field, the id of the patch that set the row's value.
    patches: Mapping[str, str] = field(default_factory=dict)

    def find_winner(self, attempt: Attempt, command: Command) -> str | None:
        """Return the version or the patch that an amendment at its old place loses to, if any."""
        if is_overtaken(attempt.place, command.op, self.version):
            return self.version
        newer = [self.patches.get(name, "") for name in command.body or {}]
        if command.op == "patch" and newer and min(newer) > attempt.place:
            return max(newer)
        return None


@dataclass(frozen=True, slots=True)
class _RejectedCommand:
    """The properties that the conditions of a rule can use."""

    resource: str
    op: str
    key: int | str
    body: dict[str, Any] | None
    code: str
    detail: str


class _NotReadyError(Exception):
    """A step of `Planner._plan_retry` has found that the command can't be sent."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict = verdict


class Planner:
    """Plans retries in one pass over rejections, which are passed in the order of their ids."""

    def __init__(
        self,
        resources: Mapping[str, ResourceSpec],
        *,
        by: str,
        ids: IdSource,
        rules: Sequence[Rule] | None,
        even_overtaken: bool = False,
        drop_conditions: bool = False,
    ) -> None:
        """Create a planner.

        Args:
            resources: the declarations, by path.
            by: the operator, for the caller of the amendments.
            ids: makes the amendments' ids.
            rules: correct the commands; None sends them unchanged.
            even_overtaken: whether amendments win over the current rows of their keys: they get
                current ids, and a create becomes a put.
            drop_conditions: whether commands with conditions that did not hold are sent without
                them.
        """
        self._resources = resources
        self._by = by
        self._placer = Placer(ids, wins=even_overtaken)
        self._rules = rules
        self._even_overtaken = even_overtaken
        self._drop_conditions = drop_conditions

    def plan(self, connection: Connection, page: Sequence[Stored]) -> list[Attempt]:
        """Return the attempts for the rejections of a page, in its order."""
        attempts = [self._plan_retry(stored) for stored in page]
        states = _read_states(connection, self._resources, attempts)
        return [self._check_overtaken(attempt, states) for attempt in attempts]

    def _plan_retry(self, stored: Stored) -> Attempt:
        try:
            old = decode(stored.line)
        except InvalidLineError as exc:
            return Attempt(stored, "unreadable", f"the line is invalid: {exc}")
        before = _describe(old)
        place = self._placer.place(old.id, stored.rejected_at)
        rule: Rule | None = None
        after: dict[str, Any] = before
        try:
            rule = self._find_rule(stored, old)
            after = self._apply_rule(rule, before)
            new = self._build_command(old, after, place, self._choose_condition(stored, old))
        except _NotReadyError as exc:
            name = rule.name if rule else None
            return Attempt(stored, exc.verdict, str(exc), name, before, after)
        line = encode(new)
        if len(line) > MAX_LINE_BYTES:
            reason = f"its line would have {len(line):,} bytes; the limit is {MAX_LINE_BYTES:,}"
            return Attempt(stored, "invalid", reason, None, before, after)
        after = _describe(new)
        name = rule.name if rule else None
        return Attempt(stored, "ready", None, name, before, after, new, line, place)

    def _find_rule(self, stored: Stored, old: Command) -> Rule | None:
        if self._rules is None:
            return None
        rejected = _RejectedCommand(
            old.resource, old.op, old.key, old.body, stored.code, stored.detail
        )
        rule = find_rule(self._rules, rejected)
        if rule is None:
            raise _NotReadyError("no rule", "no rule of the file matches")
        return rule

    def _apply_rule(self, rule: Rule | None, before: dict[str, Any]) -> dict[str, Any]:
        if rule is None:
            return before
        try:
            return rule.mend(before)
        except PatchError as exc:
            raise _NotReadyError("misfit", str(exc)) from None

    def _choose_condition(self, stored: Stored, old: Command) -> Mapping[str, Any] | None:
        """Return the amendment's condition: the command's own, unless it was why it failed.

        It depends on no other command: at its time, none has to be waited for.
        """
        members = dict(old.condition or {})
        members.pop("after", None)
        if stored.code not in _OF_CONDITIONS or not members:
            return members or None
        if not self._drop_conditions:
            raise _NotReadyError(
                "conditional",
                "its condition would fail again; --drop-condition sends it without the condition",
            )
        return None

    def _build_command(
        self,
        old: Command,
        document: Mapping[str, Any],
        place: str,
        condition: Mapping[str, Any] | None,
    ) -> Command:
        """Build the amendment from a changed document, and validate it."""
        spec = self._resources.get(document["resource"])
        if spec is None:
            raise _NotReadyError("invalid", f"there is no resource {document['resource']!r}")
        key, body = document["key"], document["body"]
        if not isinstance(key, int | str) or isinstance(key, bool) or not spec.fits_key(key):
            raise _NotReadyError("invalid", f"{key!r} is not a key of {spec.path}")
        if old.op != "delete":
            body = _validate_body(spec, old.schema, body, is_patch=old.op == "patch")
        elif body is not None:
            raise _NotReadyError("invalid", "a delete can't have a body")
        # A create never wins over an existing row.
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
            condition=condition,
        )

    def _check_overtaken(
        self, attempt: Attempt, states: Mapping[tuple[str, str], _KeyState]
    ) -> Attempt:
        command = attempt.command
        state = states.get((command.resource, str(command.key))) if command is not None else None
        if (
            command is None
            or state is None
            or is_decided_command(
                command.op, command.body, command.condition, self._resources[command.resource]
            )
        ):
            return attempt  # a decided command takes its place after all others
        if self._even_overtaken:
            # Only a row with an id from the future still wins over a current id.
            is_ready = is_orphaned(state.version) or original_version(state.version) < command.id
            winner = None if is_ready else state.version
        else:
            winner = state.find_winner(attempt, command)
        return attempt if winner is None else _build_overtaken(attempt, command, state, winner)


def _describe(command: Command) -> dict[str, Any]:
    """Return the members that a retry may change."""
    members = {"resource": command.resource, "key": command.key, "body": command.body}
    return members if command.condition is None else {**members, "if": command.condition}


def _build_overtaken(attempt: Attempt, command: Command, state: _KeyState, winner: str) -> Attempt:
    change = "deleted" if state.is_deleted else "written"
    writer = _describe_writer(winner)
    ending = f"since, by {writer}"
    if command.op == "create":
        ending = f"by {writer}, and a create replaces nothing"
    return Attempt(
        attempt.stored,
        "overtaken",
        f"{command.resource} {command.key} has been {change} {ending}",
        attempt.rule,
        attempt.before,
        attempt.after,
    )


def _validate_body(
    spec: ResourceSpec, schema: int, body: object, *, is_patch: bool = False
) -> dict[str, Any]:
    """Return the body, upcast to the current schema version and validated like a client's body."""
    if not isinstance(body, dict):
        raise _NotReadyError("invalid", "the body is not an object")
    op: Op = "patch" if is_patch else "put"
    command = Command("", op, spec.path, "", min(schema, spec.schema_version), "", None, body)
    try:
        current = orjson.dumps(upcast(command, spec).body)
        valid = spec.body.validate_patch(current) if is_patch else spec.body.validate(current)
    except BodyError as exc:
        raise _NotReadyError("invalid", str(exc)) from None
    except BodyInvalidError as exc:
        raise _NotReadyError("invalid", str(exc)) from None
    if is_patch and not valid.body:
        raise _NotReadyError("invalid", "a patch sets at least one field")
    return valid.body


def _read_states(
    connection: Connection, resources: Mapping[str, ResourceSpec], attempts: Iterable[Attempt]
) -> dict[tuple[str, str], _KeyState]:
    """Read the rows and tombstones of the attempts' keys, by resource and key as text."""
    keys: dict[str, list[str]] = {}
    for attempt in attempts:
        if attempt.command is not None:
            keys.setdefault(attempt.command.resource, []).append(str(attempt.command.key))
    states: dict[tuple[str, str], _KeyState] = {}
    for path, resource_keys in keys.items():
        spec = resources[path]
        graves = connection.execute(_GRAVES, [path, resource_keys]).fetchall()
        states |= {(path, key): _KeyState(version, is_deleted=True) for key, version in graves}
        rows = connection.execute(
            _ROWS.format(
                table=sql.Identifier("public", spec.table),
                key=sql.Identifier(spec.key.name),
                type=sql.SQL(_ARRAY_TYPES.get(spec.key.sql_type, "text[]")),
            ),
            [resource_keys],
        ).fetchall()
        edits = connection.execute(_EDITS, [path, resource_keys]).fetchall()
        patches = {key: fields for key, fields in edits if isinstance(fields, dict)}
        states |= {
            (path, key): _KeyState(version, is_deleted=False, patches=patches.get(key, {}))
            for key, version in rows
        }
    return states


def _describe_writer(version: str) -> str:
    """Describe the command that wrote a row, as far as the row's version names it."""
    original = original_version(version)
    return (
        "an unknown command, as the outdated row does not contain its id"
        if is_outdated(original)
        else original
    )


_ARRAY_TYPES = {"integer": "integer[]", "bigint": "bigint[]", "uuid": "uuid[]"}
_GRAVES = """
    SELECT key, version::text FROM forebay.tombstones WHERE resource = %s AND key = ANY(%s)
"""
_EDITS = "SELECT key, fields FROM forebay.edits WHERE resource = %s AND key = ANY(%s)"
_ROWS = sql.SQL("""
    SELECT {key}::text, _version::text FROM {table}
    WHERE {key} = ANY(%s::text[]::{type})
""")
