"""Creation of commands from items: validation, keys, ids, and the size limit of a line."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from forebay.codec import MAX_LINE_BYTES, encode
from forebay.command import Body, Command, KeyValue, Op
from forebay.conditions import Condition
from forebay.decided_commands import is_decided_command
from forebay.intake.attachments import AttachmentCheck
from forebay.intake.json_text import JsonText, dump
from forebay.intake.validation import validate_item, validate_key, validate_patch
from forebay.problem import Problem, ProblemError
from forebay.resource.body import BodyInvalidError, Fault, ValidItem, format_pointer
from forebay.resource.spec import ResourceSpec

#: Items in one request.
MAX_BATCH_ITEMS = 500

_KEY_NAMESPACE = uuid.UUID("0e3c3f0a-6f0c-5d0b-8f5d-1f0d8f9c2a77")
#: The general code of an invalid item; the first fault with another code takes precedence.
_VALIDATION = "validation_failed"


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of commands: the caller, and the headers of the request that affect them."""

    #: The caller's name from the authorizer.
    by: str
    trace: str | None = None
    idempotency_key: str | None = None
    #: The greatest version that the client has seen; new command ids exceed it.
    after: str | None = None
    #: The commands that decided commands of an item depend on, by resource and key as text.
    dependencies: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    #: The owner of the idempotency key, if it is not `by`. Server-made keys derive from it, so it
    #: must not change even if a release changes the names of callers.
    key_owner: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A command and its encoded line."""

    command: Command
    data: bytes


@dataclass(slots=True)
class ItemNames:
    """Generates names for the items of one batch; an item has the same name in every batch.

    A name depends on the item's content, not on its position or on the order of its members. Equal
    items are numbered.
    """

    _counts: Counter[str] = field(default_factory=Counter)

    def next_for(self, item: JsonText) -> str:
        """Return the name of the batch's next item."""
        digest = hashlib.sha256(dump(item.value, sort_members=True)).hexdigest()
        self._counts[digest] += 1
        return f"{digest}.{self._counts[digest] - 1}"


class MakesIds(Protocol):
    """A source of command ids."""

    def make(self, *, create: bool, after: str | None = None, decided: bool = False) -> str:
        """Create an id; it exceeds `after`, which does not affect later ids."""


class CommandMaker:
    """Factory for commands; one per process."""

    def __init__(self, ids: MakesIds, attachments: AttachmentCheck | None = None) -> None:
        """Create the factory.

        Args:
            ids: makes the commands' ids.
            attachments: checks the attachments in bodies; by default, null is accepted only.
        """
        self._ids = ids
        self._attachments = attachments or AttachmentCheck(None)

    def create(
        self, spec: ResourceSpec, item: JsonText, origin: Origin, *, name: str = "0"
    ) -> Line:
        """Create a `create` command; the key is in the body, or is generated.

        Args:
            spec: the resource.
            item: the item as sent.
            origin: a server-made key derives from its idempotency key, if present.
            name: distinguishes items with the same idempotency key; part of the derived key.

        Raises:
            ProblemError: the item is refused.
        """
        valid = _require_valid(spec, item)
        if not spec.key_is_made:
            return self._build_line(spec, "create", _require_key(spec, valid), valid.body, origin)
        if valid.key is not None:
            fault = {"pointer": f"#/{spec.key.name}", "detail": "Use PUT to choose the key"}
            raise ProblemError(Problem("key_not_allowed", "the server makes this key", [fault]))
        if origin.idempotency_key is None and origin.after is not None:
            origin = replace(origin, after=None)  # a new random key has no earlier version
        return self._build_line(spec, "create", _make_key(spec, origin, name), valid.body, origin)

    def put(
        self,
        spec: ResourceSpec,
        key: KeyValue,
        item: JsonText,
        origin: Origin,
        *,
        create: bool,
        condition: Condition | None = None,
    ) -> Line:
        """Create a `put` command for a key, or a `create` if it must not overwrite.

        Raises:
            ProblemError: the item is refused.
        """
        valid = _require_valid(spec, item)
        _check_key(spec, valid, key)
        op: Op = "create" if create else "put"
        return self._build_line(spec, op, key, valid.body, origin, condition)

    def put_item(
        self,
        spec: ResourceSpec,
        item: JsonText,
        origin: Origin,
        *,
        create: bool = False,
        condition: Condition | None = None,
    ) -> Line:
        """Create a `put` command for the key in the item, or a `create`.

        Raises:
            ProblemError: the item is refused.
        """
        valid = _require_valid(spec, item)
        op: Op = "create" if create else "put"
        return self._build_line(spec, op, _require_key(spec, valid), valid.body, origin, condition)

    def patch(
        self,
        spec: ResourceSpec,
        key: KeyValue,
        patch: ValidItem,
        origin: Origin,
        *,
        condition: Condition | None = None,
    ) -> Line:
        """Create a `patch` command for a key.

        Args:
            spec: the resource.
            key: the key.
            patch: the fields to set, from `read_patch`.
            origin: of the request's commands.
            condition: the condition under which the command applies.

        Raises:
            ProblemError: the patch has another key, or is too large.
        """
        _check_key(spec, patch, key)
        return self._build_line(spec, "patch", key, patch.body, origin, condition)

    def patch_item(
        self,
        spec: ResourceSpec,
        item: JsonText,
        origin: Origin,
        *,
        condition: Condition | None = None,
    ) -> Line:
        """Create a `patch` command for the key in an object; its other members are the fields.

        Raises:
            ProblemError: the object is refused.
        """
        patch = read_patch(spec, item)
        key = _require_key(spec, patch)
        return self._build_line(spec, "patch", key, patch.body, origin, condition)

    def delete(
        self,
        spec: ResourceSpec,
        key: KeyValue,
        origin: Origin,
        *,
        condition: Condition | None = None,
    ) -> Line:
        """Create a `delete` command for a key."""
        return self._build_line(spec, "delete", key, None, origin, condition)

    def delete_item(
        self,
        spec: ResourceSpec,
        item: JsonText,
        origin: Origin,
        *,
        condition: Condition | None = None,
    ) -> Line:
        """Create a `delete` command for the key in an item; only the names of other fields matter.

        Raises:
            ProblemError: the item is refused.
        """
        key = _require_valid_key(spec, item)
        return self._build_line(spec, "delete", key, None, origin, condition)

    def _build_line(  # noqa: PLR0917 - the members of a command
        self,
        spec: ResourceSpec,
        op: Op,
        key: KeyValue,
        body: Body | None,
        origin: Origin,
        condition: Condition | None = None,
    ) -> Line:
        if spec.attachments and body is not None:
            self._attachments.check(spec, key, body)
        decided = is_decided_command(op, body, condition, spec)
        dependencies = origin.dependencies.get((spec.path, str(key))) if decided else None
        if dependencies:
            condition = replace(condition or Condition(), after=tuple(dependencies))
        command = Command(
            id=self._ids.make(create=op == "create", after=origin.after, decided=decided),
            op=op,
            resource=spec.path,
            key=key,
            schema=spec.schema_version,
            by=origin.by,
            trace=origin.trace,
            body=body,
            condition=None if condition is None else condition.to_json(),
        )
        data = encode(command)
        if len(data) > MAX_LINE_BYTES:
            raise ProblemError(
                Problem(
                    "command_too_large",
                    f"the command takes {len(data)} bytes in the archive, the limit is "
                    f"{MAX_LINE_BYTES}",
                )
            )
        return Line(command, data)


def read_patch(spec: ResourceSpec, item: JsonText) -> ValidItem:
    """Validate the fields that a patch sets.

    Raises:
        ProblemError: a field is invalid, or there is none.
    """
    try:
        patch = validate_patch(spec, item)
    except BodyInvalidError as exc:
        raise ProblemError(_describe_invalid(spec, exc.faults)) from None
    if not patch.body:
        fault = {"pointer": "#", "detail": "send at least one field besides the key"}
        raise ProblemError(Problem("empty_patch", "the patch sets no field", [fault]))
    return patch


def _check_key(spec: ResourceSpec, valid: ValidItem, key: KeyValue) -> None:
    """Refuse an item with another key than the path's."""
    if valid.key is not None and valid.key != key:
        fault = {"pointer": f"#/{spec.key.name}", "detail": f"the path says {key}"}
        detail = f"the body's key is {valid.key}, the path's {key}"
        raise ProblemError(Problem("key_mismatch", detail, [fault]))


def _require_valid(spec: ResourceSpec, item: JsonText) -> ValidItem:
    try:
        return validate_item(spec, item)
    except BodyInvalidError as exc:
        raise ProblemError(_describe_invalid(spec, exc.faults)) from None


def _require_valid_key(spec: ResourceSpec, item: JsonText) -> KeyValue:
    if not isinstance(item.value, dict):
        raise ProblemError(_describe_invalid(spec, (Fault("#", "Input should be an object"),)))
    unknown = [name for name in item.value if spec.column(name) is None]
    if unknown:
        faults = [
            Fault(format_pointer([name]), "Extra inputs are not permitted") for name in unknown
        ]
        raise ProblemError(_describe_invalid(spec, tuple(faults)))
    if spec.key.name not in item.value:
        raise ProblemError(_describe_missing_key(spec))
    try:
        return validate_key(spec, item)
    except BodyInvalidError as exc:
        raise ProblemError(_describe_invalid(spec, exc.faults)) from None


def _require_key(spec: ResourceSpec, valid: ValidItem) -> KeyValue:
    if valid.key is None:
        raise ProblemError(_describe_missing_key(spec))
    return valid.key


def _describe_missing_key(spec: ResourceSpec) -> Problem:
    fault = {"pointer": f"#/{spec.key.name}", "detail": "Field required"}
    return Problem("key_missing", "the item has no key", [fault])


def _describe_invalid(spec: ResourceSpec, faults: tuple[Fault, ...]) -> Problem:
    code = next((fault.code for fault in faults if fault.code != _VALIDATION), _VALIDATION)
    count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    return Problem(
        code,
        f"the item is no valid {spec.name}: {count}",
        [{"pointer": fault.pointer, "detail": fault.detail} for fault in faults],
    )


def _make_key(spec: ResourceSpec, origin: Origin, name: str) -> str:
    """Derive a key from the Idempotency-Key, the same for a repetition; else a random key."""
    if origin.idempotency_key is None:
        return str(uuid.uuid4())
    owner = origin.by if origin.key_owner is None else origin.key_owner
    source = f"{spec.path}\x1f{owner}\x1f{origin.idempotency_key}\x1f{name}"
    return str(uuid.uuid5(_KEY_NAMESPACE, source))
