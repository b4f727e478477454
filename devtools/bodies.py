"""Generate bodies of an earlier schema version from its recorded shape."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from forebay.resource.body import INT64_MAX, INT64_MIN
from forebay.resource.partial import INCREMENT
from forebay.resource.shape import FieldShape, Shape
from forebay.resource.spec import Kind

#: The characters that JSON can carry and Postgres can store.
_CHARACTERS = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
_ANYTHING = st.none() | st.booleans() | st.integers(-9, 9) | st.text(_CHARACTERS, max_size=5)
_MAX_ITEMS = 5
_MAX_TEXT = 300


def bodies(shape: Shape) -> SearchStrategy[dict[str, Any]]:
    """Return a strategy for archived bodies: without the key, and with every default."""
    return st.fixed_dictionaries({name: draw_values(field) for name, field in shape.fields.items()})


def patches(shape: Shape) -> SearchStrategy[dict[str, Any]]:
    """Return a strategy for archived bodies of patches: some fields, numbers as increments too."""
    values = {name: _draw_patched(field) for name, field in shape.fields.items()}
    return st.fixed_dictionaries({}, optional=values)


def _draw_patched(field: FieldShape) -> SearchStrategy[Any]:
    values = draw_values(field)
    if field.kind is Kind.INTEGER:
        return values | st.integers(-9, 9).map(lambda number: {INCREMENT: number})
    if field.kind is Kind.DECIMAL:
        return values | st.just({INCREMENT: "0"})
    return values


def draw_values(field: FieldShape) -> SearchStrategy[Any]:
    """Return a strategy for the archived values of a field."""
    by_kind = st.one_of([_draw_kind(field, schema) for schema in field.schemas or ({},)])
    if field.nullable:
        by_kind = st.none() | by_kind
    return by_kind if field.required else st.just(field.default) | by_kind


def _draw_kind(field: FieldShape, schema: Mapping[str, Any]) -> SearchStrategy[Any]:
    """Return a strategy for archived values; their types differ from those that clients send."""
    match field.kind:
        case Kind.DECIMAL:
            scale, integer_digits = field.scale or 0, (field.precision or 1) - (field.scale or 0)
            limit = Decimal(10) ** integer_digits - Decimal(10) ** -scale
            return st.decimals(-limit, limit, places=scale).map(str)
        case Kind.DATE:
            return st.dates().map(lambda day: day.isoformat())
        case Kind.TIMESTAMP:
            return st.datetimes().map(lambda moment: moment.isoformat() + "Z")
        case Kind.UUID:
            return st.uuids().map(str)
        case _:
            return _draw_schema(_drop_null(schema))


def _drop_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    return {**schema, "anyOf": choices} if choices else schema


def _draw_schema(schema: Any) -> SearchStrategy[Any]:  # noqa: ANN401 - JSON
    if not isinstance(schema, dict):
        return _ANYTHING
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return st.one_of([_draw_schema(choice) for choice in schema[name]])
    if "allOf" in schema:
        return _draw_schema(schema["allOf"][0])
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return st.sampled_from(values) if values else st.nothing()
    build = _BY_TYPE.get(schema.get("type", ""))
    return build(schema) if build else _ANYTHING


def _draw_texts(schema: Mapping[str, Any]) -> SearchStrategy[str]:
    low = schema.get("minLength", 0)
    high = max(low, min(schema.get("maxLength", _MAX_TEXT), low + _MAX_TEXT))
    examples = [example for example in schema.get("examples", ()) if isinstance(example, str)]
    if "pattern" in schema:
        try:
            matching = st.from_regex(re.compile(schema["pattern"]), alphabet=_CHARACTERS)
        except re.error:  # a pattern of another dialect than Python's
            matching = st.nothing()
        # The validator's `$` matches at the end only; Python's also matches before a final newline.
        texts: SearchStrategy[str] = matching.filter(
            lambda text: low <= len(text) <= high and not text.endswith("\n")
        )
    elif schema.get("format") == "uuid":
        texts = st.uuids().map(str)
    elif schema.get("format") == "date":
        texts = st.dates().map(lambda day: day.isoformat())
    elif schema.get("format") == "date-time":
        texts = st.datetimes().map(lambda moment: moment.isoformat() + "Z")
    else:
        texts = st.text(_CHARACTERS, min_size=low, max_size=high)
    return texts | st.sampled_from(examples) if examples else texts


def _read_bounds(schema: Mapping[str, Any]) -> tuple[int, int]:
    low, high = schema.get("minimum", INT64_MIN), schema.get("maximum", INT64_MAX)
    if "exclusiveMinimum" in schema:
        low = max(low, schema["exclusiveMinimum"] + 1)
    if "exclusiveMaximum" in schema:
        high = min(high, schema["exclusiveMaximum"] - 1)
    return max(int(low), INT64_MIN), min(int(high), INT64_MAX)


def _draw_numbers(schema: Mapping[str, Any]) -> SearchStrategy[float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    return st.floats(
        low,
        high,
        exclude_min="exclusiveMinimum" in schema,
        exclude_max="exclusiveMaximum" in schema,
        allow_nan=False,
        allow_infinity=False,
    )


def _draw_arrays(schema: Mapping[str, Any]) -> SearchStrategy[list[Any]]:
    low = schema.get("minItems", 0)
    high = max(low, min(schema.get("maxItems", _MAX_ITEMS), low + _MAX_ITEMS))
    if "prefixItems" in schema:
        return st.tuples(*map(_draw_schema, schema["prefixItems"])).map(list)
    items = _draw_schema(schema.get("items", {}))
    if items.is_empty:
        return st.just([])
    return st.lists(items, min_size=low, max_size=high)


def _draw_objects(schema: Mapping[str, Any]) -> SearchStrategy[dict[str, Any]]:
    members = {name: _draw_schema(member) for name, member in schema.get("properties", {}).items()}
    required = set(schema.get("required", ()))
    optional = {
        n: strategy
        for n, strategy in members.items()
        if n not in required and not strategy.is_empty
    }
    declared = st.fixed_dictionaries(
        {name: member for name, member in members.items() if name in required}, optional=optional
    )
    additional = schema.get("additionalProperties", False if members else {})
    if additional is False or members:
        return declared
    return st.dictionaries(
        st.text(_CHARACTERS, max_size=9), _draw_schema(additional), max_size=_MAX_ITEMS
    )


_BY_TYPE: Mapping[str, Callable[[Mapping[str, Any]], SearchStrategy[Any]]] = {
    "string": _draw_texts,
    "integer": lambda schema: st.integers(*_read_bounds(schema)),
    "number": _draw_numbers,
    "boolean": lambda _schema: st.booleans(),
    "null": lambda _schema: st.none(),
    "array": _draw_arrays,
    "object": _draw_objects,
}
