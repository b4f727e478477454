"""Test upcasters with bodies generated from the recorded shape of an earlier version."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import HypothesisException
from hypothesis.strategies import SearchStrategy
from pydantic_core import SchemaValidator, ValidationError

from devtools.bodies import bodies, patches
from forebay.command import Body
from forebay.resource import shape
from forebay.resource.body import build_patch_schema
from forebay.resource.fitting import misfit
from forebay.resource.shape import Shape
from forebay.resource.spec import ResourceSpec, Upcaster

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
    nullable = {field.name: None for field in spec.fields if field.nullable}

    def find_fault(body: Body) -> str | None:
        current, reason = _upcast(spec, spec.upcasters, version, body)
        if reason is not None:
            return reason
        reason = misfit(spec, current)
        if reason is not None:
            return f"the upcasters returned a body that does not fit: {reason}"
        return _check_declaration(validator, nullable | current)

    yield from _try(
        f"{spec.name}: for a body of schema version {version}", bodies(old), find_fault, examples
    )


def try_patch_upcasters(
    spec: ResourceSpec, version: int, old: Shape, examples: int
) -> Iterator[str]:
    """Yield the faults of upcasting patches of an earlier version, if the resource does that.

    Args: as of `try_upcasters`.
    """
    if not all(number in spec.patch_upcasters for number in range(version, spec.schema_version)):
        return
    schema = spec.body.source.schema()
    validator = SchemaValidator(build_patch_schema(schema), schema.config, _use_prebuilt=False)

    def find_fault(body: Body) -> str | None:
        current, reason = _upcast(spec, spec.patch_upcasters, version, body)
        return reason or _check_declaration(validator, current)

    yield from _try(
        f"{spec.name}: for a patch of schema version {version}", patches(old), find_fault, examples
    )


def _try(
    label: str,
    old_bodies: SearchStrategy[Body],
    find_fault: Callable[[Body], str | None],
    examples: int,
) -> Iterator[str]:
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(old_bodies)
    def try_one(body: Body) -> None:
        reason = find_fault(body)
        if reason is not None:
            body_text = orjson.dumps(body).decode()
            raise _WrongUpcasterError(f"{reason}; the input was {body_text[:300]}")

    try:
        try_one()
    except _WrongUpcasterError as exc:
        yield f"{label}, {exc}"
    except HypothesisException as exc:
        yield (
            f"{label}, no body can be generated from the recorded shape: {exc}; add examples for "
            f"its strings, or delete the entry in {shape.FILE} to skip the check of its upcaster"
        )


def _upcast(
    spec: ResourceSpec, upcasters: Mapping[int, Upcaster], version: int, body: Body
) -> tuple[Body, str | None]:
    """Upcast a body; return it, or a fault."""
    current: Any = deepcopy(body)
    for number in range(version, spec.schema_version):
        try:
            current = upcasters[number](current)
        except Exception as exc:  # noqa: BLE001 - the upcaster is the user's code
            return {}, f"the upcaster from version {number} raised {exc!r}"
        if not isinstance(current, dict):
            return {}, f"the upcaster from version {number} returned a value that is not an object"
    try:
        orjson.dumps(current)
    except TypeError as exc:
        return {}, f"the upcasters returned a value that is not JSON: {exc}"
    return current, None


def _check_declaration(validator: SchemaValidator, body: Body) -> str | None:
    try:
        validator.validate_json(orjson.dumps(body), strict=True)
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_context=False):
            if error["type"] not in _OF_FUNCTIONS:
                path = ".".join(map(str, error["loc"]))
                return f"the upcasters returned an invalid body: {path}: {error['msg']}"
    return None
