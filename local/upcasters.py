"""Test upcasters with bodies generated from the recorded shape of an earlier version."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import HypothesisException
from pydantic_core import SchemaValidator, ValidationError

from forebay.resource import shape
from forebay.resource.fitting import misfit
from forebay.resource.shape import Shape
from forebay.resource.spec import ResourceSpec
from local.bodies import bodies

#: Errors raised by a declaration's own functions, which a recorded shape does not cover.
_OF_FUNCTIONS = frozenset({"value_error", "assertion_error"})


class _WrongUpcasterError(Exception):
    """An upcaster returned a body that the resource can't hold."""


def try_upcasters(spec: ResourceSpec, version: int, old: Shape, examples: int) -> Iterator[str]:
    """Yield the faults of upcasting bodies of an earlier version, with the smallest such body.

    Args:
        spec: of the resource as it is declared now.
        version: the earlier version.
        old: the shape of the bodies of that version.
        examples: how many bodies are tested; the same bodies each time.
    """
    schema = spec.body.source.schema()
    validator = SchemaValidator(schema.item, schema.config, _use_prebuilt=False)

    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(bodies(old))
    def try_one(body: dict[str, Any]) -> None:
        reason = _upcast_reason(spec, version, body, validator)
        if reason is not None:
            body_text = orjson.dumps(body).decode()
            raise _WrongUpcasterError(f"{reason}; the input was {body_text[:300]}")

    try:
        try_one()
    except _WrongUpcasterError as exc:
        yield f"{spec.name}: for a body of schema version {version}, {exc}"
    except HypothesisException as exc:
        yield (
            f"{spec.name}: no body can be generated from the recorded shape of schema version "
            f"{version}: {exc}; add examples for its strings, or delete the entry in {shape.FILE} "
            "to skip the check of its upcaster"
        )


def _upcast_reason(
    spec: ResourceSpec, version: int, body: Mapping[str, Any], validator: SchemaValidator
) -> str | None:
    """Upcast a body; return the fault, or None."""
    current: Any = deepcopy(dict(body))
    for number in range(version, spec.schema_version):
        try:
            current = spec.upcasters[number](current)
        except Exception as exc:  # noqa: BLE001 - the upcaster is the user's code
            return f"the upcaster from version {number} raised {exc!r}"
        if not isinstance(current, dict):
            return f"the upcaster from version {number} returned a value that is not an object"
    missing = {
        field.name: None for field in spec.fields if field.nullable and field.name not in current
    }
    try:
        text = orjson.dumps(missing | current)
    except TypeError as exc:
        return f"the upcasters returned a value that is not JSON: {exc}"
    reason = misfit(spec, current)
    if reason is not None:
        return f"the upcasters returned a body that does not fit: {reason}"
    return _check_declaration(validator, text)


def _check_declaration(validator: SchemaValidator, text: bytes) -> str | None:
    try:
        validator.validate_json(text, strict=True)
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_context=False):
            if error["type"] not in _OF_FUNCTIONS:
                path = ".".join(map(str, error["loc"]))
                return f"the upcasters returned an invalid body: {path}: {error['msg']}"
    return None
