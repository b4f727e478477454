"""Conversion of items for an earlier schema version to the current one, as in a replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import jiter

from forebay.intake.json_text import JsonText, dump, parse_text
from forebay.intake.validation import find_changed_numbers
from forebay.problem import Problem, ProblemError
from forebay.resource.body import Fault, format_pointer
from forebay.resource.fitting import value_reason
from forebay.resource.partial import INCREMENT, is_increment
from forebay.resource.shape import FieldShape, Shape
from forebay.resource.spec import NUMBERS, FieldSpec, Kind, ResourceSpec, Upcaster


def upgrade_item(spec: ResourceSpec, version: int, old: Shape, item: JsonText) -> JsonText:
    """Convert an item to the current schema version.

    Args:
        spec: the resource.
        version: the item's schema version, earlier than the resource's.
        old: the shape of bodies of that version.
        item: the item as sent.

    Raises:
        ProblemError: the item does not fit that version, or an upcaster refuses it.
    """
    if not isinstance(item.value, dict):
        return item  # the current version refuses it with the usual message
    key, body = _read_body(spec, version, old, item.value, is_patch=False)
    filled = {name: field.default for name, field in old.fields.items() if name not in body}
    current = _upcast(spec, spec.upcasters, version, body | deepcopy(filled))
    # Parsed again, because an upcaster may return any values that have a JSON form.
    return parse_text(dump({**current, **key}))


def upgrade_patch(spec: ResourceSpec, version: int, old: Shape, patch: JsonText) -> JsonText:
    """Convert a patch to the current schema version, by the upcasters of patches.

    Args:
        spec: the resource.
        version: the patch's schema version, earlier than the resource's.
        old: the shape of bodies of that version.
        patch: the fields as sent.

    Raises:
        ProblemError: the patch does not fit that version, an upcaster refuses it, or the resource
            has no upcaster of patches from that version.
    """
    if not isinstance(patch.value, dict):
        return patch
    missing = [
        number
        for number in range(version, spec.schema_version)
        if number not in spec.patch_upcasters
    ]
    if missing:
        detail = (
            f"patches of {spec.path} of schema version {missing[0]} can't be converted to the "
            f"current one, {spec.schema_version}; send that"
        )
        raise ProblemError(Problem("unsupported_media_type", detail))
    key, body = _read_body(spec, version, old, patch.value, is_patch=True)
    current = _upcast(spec, spec.patch_upcasters, version, body)
    return parse_text(dump({**current, **key}))


def _read_body(
    spec: ResourceSpec, version: int, old: Shape, value: Mapping[str, Any], *, is_patch: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split an item into the member with its key, if it has it, and its body as archived."""
    key = {name: value[name] for name in value if name == spec.key.name}
    members = {name: value[name] for name in value if name not in key}
    body = {
        name: _convert_to_archived(old.fields.get(name), member) for name, member in members.items()
    }
    faults = [*_find_faults(old, body, is_patch=is_patch), *find_changed_numbers(members, body)]
    if faults:
        raise ProblemError(_describe_problem(spec, version, faults))
    return key, body


def _convert_to_archived(field: FieldShape | None, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value in the form of the archive, which upcasters expect."""
    if field is not None and field.kind in NUMBERS and is_increment(value):
        return {INCREMENT: _convert_to_archived(field, value[INCREMENT])}
    if isinstance(value, jiter.LosslessFloat):
        is_decimal = field is not None and field.kind is Kind.DECIMAL
        return str(value) if is_decimal else float(value)
    if isinstance(value, int) and field is not None and field.kind is Kind.DECIMAL:
        return value if isinstance(value, bool) else str(value)
    if isinstance(value, list):
        return [_convert_to_archived(None, element) for element in value]
    if isinstance(value, dict):
        return {name: _convert_to_archived(None, element) for name, element in value.items()}
    return value


def _find_faults(old: Shape, body: Mapping[str, Any], *, is_patch: bool) -> Iterator[Fault]:
    for name in body:
        if name not in old.fields:
            yield Fault(format_pointer((name,)), "that version has no such member")
    for name, field in old.fields.items():
        if name in body:
            value = body[name]
            is_sum = is_patch and field.kind in NUMBERS and is_increment(value)
            number = value[INCREMENT] if is_sum else value
            reason = value_reason(_build_spec(name, field), number)
            if reason is not None:
                yield Fault(format_pointer((name,)), reason)
        elif field.required and not is_patch:
            yield Fault(format_pointer((name,)), "Field required")


def _build_spec(name: str, field: FieldShape) -> FieldSpec:
    return FieldSpec(
        name=name,
        kind=field.kind,
        nullable=field.nullable,
        max_length=field.max_length,
        precision=field.precision,
        scale=field.scale,
    )


def _upcast(
    spec: ResourceSpec, upcasters: Mapping[int, Upcaster], version: int, body: dict[str, Any]
) -> dict[str, Any]:
    current: Any = body
    for number in range(version, spec.schema_version):
        try:
            current = upcasters[number](current)
        except Exception as exc:  # the upcaster is the user's code: any exception is a refusal
            detail = f"the upcaster from schema version {number} raised {exc!r}"
            raise ProblemError(_describe_problem(spec, version, [Fault("#", detail)])) from exc
    if not isinstance(current, dict):
        raise ProblemError(
            _describe_problem(spec, version, [Fault("#", "an upcaster made no object")])
        )
    return current


def _describe_problem(spec: ResourceSpec, version: int, faults: list[Fault]) -> Problem:
    count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    return Problem(
        "validation_failed",
        f"the item is no valid {spec.name} of schema version {version}: {count}",
        [{"pointer": fault.pointer, "detail": fault.detail} for fault in faults],
    )
