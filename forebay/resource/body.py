"""Validation of a client's JSON into a body that the archive and Postgres can store.

The module imports pydantic-core only. Importing pydantic, which declarations use, would take longer
at a cold start than all other imports of Forebay; packages contain the compiled schemas
(`forebay.resource.compiled`).
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import quote

from pydantic_core import (
    CoreConfig,
    CoreSchema,
    ErrorDetails,
    SchemaSerializer,
    SchemaValidator,
    ValidationError,
    to_json,
)

from forebay.command import Body, KeyValue
from forebay.resource.partial import (
    FAULT_OF_INCREMENT,
    Increment,
    build_decimal_schema,
    is_increment,
    make_partial,
)

_DELETE = 0x7F
_PREFIXES = {"value_error": "Value error, ", "assertion_error": "Assertion failed, "}
_NO_INCREMENT = "only a PATCH of an integer or decimal field can have $increment"
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
MAX_DEPTH = 64  # levels of a JSON value; typical values have a few, attacks thousands


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in a body: its location (a JSON Pointer in URI form) and a description."""

    pointer: str
    detail: str
    #: A stable code: `validation_failed`, unless no resource could store the value.
    code: str = "validation_failed"


class BodyInvalidError(Exception):
    """The body doesn't match the declaration; `faults` lists all faults."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class ValidItem:
    """A valid body as JSON values, without the key, and the key if the body contained it."""

    body: Body
    key: KeyValue | None


class ItemModel:
    """The object that pydantic-core validates an item into: a minimal pydantic model."""

    __slots__ = (
        "__dict__",
        "__pydantic_extra__",
        "__pydantic_fields_set__",
        "__pydantic_private__",
    )
    #: The names of the members that the JSON text has.
    __pydantic_fields_set__: set[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySchema:
    """The schemas that validate bodies and keys of one resource."""

    #: Schema of a whole item, validated into an `ItemModel`; the key is optional.
    item: CoreSchema
    #: Default configuration of `item`.
    config: CoreConfig
    key: CoreSchema
    key_name: str
    json_fields: tuple[str, ...]
    timestamps: tuple[str, ...]
    integers: tuple[str, ...]
    #: The total and the fractional digits of each decimal.
    decimals: Mapping[str, tuple[int, int]]


class BodySource(Protocol):
    """The source of a validator's schema: a declaration, or its compiled form."""

    @property
    def declared_as(self) -> tuple[str, str]:
        """The module and the qualified name of the class that declares the resource."""

    def schema(self) -> BodySchema:
        """Return the schema; each validator calls this once, on first use."""

    def json_schema(self) -> Mapping[str, Any]:
        """Return the JSON Schema of the bodies; their members include the key."""


class BodyValidator:
    """Validator for bodies and keys of one resource.

    Validators are built on first use, so a cold start builds only those of the requested resource.
    """

    def __init__(self, source: BodySource) -> None:
        self.source = source

    def validate(self, raw: bytes) -> ValidItem:
        """Validate the body of one item.

        Args:
            raw: well-formed JSON text of one object, UTF-8.

        Raises:
            BodyInvalidError: the body is invalid; the error lists all faults.
        """
        item = self._read(self._validator, raw)
        body = self._serializer.to_python(item, mode="json", exclude={self._schema.key_name})
        return self._finish(item, body, raw)

    def validate_patch(self, raw: bytes) -> ValidItem:
        """Validate the body of a patch, which has any of the fields, or none.

        An integer or decimal field may have an increment (`forebay.resource.partial`).

        Args:
            raw: well-formed JSON text of one object, UTF-8.

        Returns:
            The fields that were sent, in the same form as by `validate`. A decimal's increment is
            text.

        Raises:
            BodyInvalidError: the body is invalid; the error lists all faults.
        """
        item = self._read(self._patch_validator, raw)
        sent = item.__pydantic_fields_set__ - {self._schema.key_name}
        values = {name: getattr(item, name) for name in sent}
        increments = {
            name: value.to_json() for name, value in values.items() if isinstance(value, Increment)
        }
        body: Body = self._serializer.to_python(item, mode="json", include=sent - increments.keys())
        # Stored as any other value, it would be an increment to the code that applies it.
        misplaced = [name for name in self._schema.json_fields if is_increment(body.get(name))]
        if misplaced:
            raise BodyInvalidError([Fault(format_pointer((n,)), _NO_INCREMENT) for n in misplaced])
        return self._finish(item, body | increments, raw)

    def check_fields(self, body: Body) -> Sequence[Fault]:
        """Return the faults of the stored values of some fields, such as sums out of bounds.

        Args:
            body: JSON values in the form of the archive.
        """
        try:
            self._patch_validator.validate_json(to_json(body), strict=True)
        except ValidationError as exc:
            return self._list_faults(exc)
        return ()

    def read_key(self, text: str) -> KeyValue:
        """Parse the key in a path segment (already percent-decoded).

        Raises:
            ValueError: the text is not a valid key, or not in canonical spelling; the message
                describes a valid key. Two spellings of a key would be two cache entries.
        """
        try:
            value = self._key_validator.validate_strings(text, strict=False)  # type: ignore[arg-type]
        except ValidationError as exc:
            raise ValueError(get_message(exc.errors(include_url=False)[0])) from None
        if str(value) != text:
            raise ValueError(f"Input should be in canonical form: {value}")
        return value if isinstance(value, int) else str(value)

    def validate_key(self, raw: bytes) -> KeyValue:
        """Parse the key in a member of an item.

        Args:
            raw: the member's JSON text.

        Raises:
            BodyInvalidError: the value is not a valid key.
        """
        try:
            key = self._key_validator.validate_json(raw, strict=True)
        except ValidationError as exc:
            raise BodyInvalidError(self._list_faults(exc, (self._schema.key_name,))) from None
        return key if isinstance(key, int) else str(key)

    @staticmethod
    def _list_faults(error: ValidationError, prefix: tuple[str, ...] = ()) -> list[Fault]:
        return [
            Fault(format_pointer((*prefix, *detail["loc"])), _describe_error(detail))
            for detail in error.errors(include_url=False)
        ]

    def json_schema(self) -> Mapping[str, Any]:
        """Return the JSON Schema of the bodies that `validate` accepts; members include the key."""
        return self.source.json_schema()

    def _read(self, validator: SchemaValidator, raw: bytes) -> ItemModel:
        try:
            item: ItemModel = validator.validate_json(raw, strict=True)
        except ValidationError as exc:
            raise BodyInvalidError(self._list_faults(exc)) from None
        return item

    def _finish(self, item: ItemModel, body: Body, raw: bytes) -> ValidItem:
        """Normalize the body, and refuse values that can't be stored."""
        faults = list(self._normalize(item, body))
        faults += self._find_unstorable(body, nul_possible=b"\\u0000" in raw)
        if faults:
            raise BodyInvalidError(faults)
        key = getattr(item, self._schema.key_name)
        return ValidItem(body, str(key) if isinstance(key, uuid.UUID) else key)

    def _normalize(self, item: ItemModel, body: Body) -> Iterator[Fault]:
        """Replace values in the body by the spellings that Postgres accepts and returns."""
        for name in self._schema.timestamps:
            moment: dt.datetime | None = getattr(item, name)
            if moment is None:
                continue
            try:  # Postgres supports offsets up to 15:59 only
                body[name] = moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
            except OverflowError:  # a validator in the declaration can create such a value
                yield Fault(format_pointer((name,)), "Input is outside the years 1 to 9999 in UTC")
        for name in self._schema.decimals:
            if getattr(item, name) == 0:
                body[name] = "0"  # the exponent of a zero is unbounded

    def _find_unstorable(self, body: Body, *, nul_possible: bool) -> Iterator[Fault]:
        for name in body if nul_possible else self._schema.json_fields:
            if name in body:
                yield from _walk(body[name], (name,))

    @cached_property
    def _schema(self) -> BodySchema:
        return self.source.schema()

    @cached_property
    def _validator(self) -> SchemaValidator:
        # A nested model's prebuilt validator would accept unknown members and lenient spellings.
        return SchemaValidator(self._schema.item, self._schema.config, _use_prebuilt=False)

    @cached_property
    def _patch_validator(self) -> SchemaValidator:
        schema = build_patch_schema(self._schema)
        return SchemaValidator(schema, self._schema.config, _use_prebuilt=False)

    @cached_property
    def _serializer(self) -> SchemaSerializer:
        return SchemaSerializer(self._schema.item, self._schema.config)

    @cached_property
    def _key_validator(self) -> SchemaValidator:
        return SchemaValidator(self._schema.key)


def build_patch_schema(schema: BodySchema) -> CoreSchema:
    """Return the schema of partial bodies, in which numbers may be increments."""
    integer: CoreSchema = {
        "type": "function-before",
        "function": {"type": "no-info", "function": convert_integral},
        "schema": {"type": "int", "ge": INT64_MIN, "le": INT64_MAX},
    }
    numbers = dict.fromkeys(schema.integers, integer) | {
        name: build_decimal_schema(*size) for name, size in schema.decimals.items()
    }
    return make_partial(schema.item, numbers)


def _describe_error(error: ErrorDetails) -> str:
    """Return the message for a fault of a body; an increment is not just a wrong type."""
    is_misplaced = is_increment(error.get("input")) and error["type"] != FAULT_OF_INCREMENT
    return _NO_INCREMENT if is_misplaced else get_message(error)


def get_message(error: ErrorDetails) -> str:
    """Return pydantic's message, without the prefix for a ValueError or an AssertionError."""
    prefix = _PREFIXES.get(error["type"])
    return error["msg"].removeprefix(prefix) if prefix else error["msg"]


def convert_integral(value: object) -> object:
    """Convert a float without fraction: `5.0` is the integer 5 (JSON Schema 2020-12, §4.2.3)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_plain_key(key: str) -> str:
    """Refuse a str key that would change in a URL's path if proxies decode it repeatedly."""
    if any(char in "%/\\?#" or ord(char) < ord(" ") or ord(char) == _DELETE for char in key):
        raise ValueError("a key must not contain control characters or any of % / \\ ? #")
    if key in {".", ".."}:
        raise ValueError("a key must not be . or .., which are removed from URLs")
    return key


def format_pointer(location: Sequence[str | int]) -> str:
    """Return the location as a JSON Pointer in URI fragment form (RFC 6901 §6): `#/tags/0`."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in location)
    return "#" + "".join("/" + quote(part, safe="~!$&'()*+,;=:@") for part in parts)


def _walk(value: object, location: tuple[str | int, ...]) -> Iterator[Fault]:
    """Yield a fault for each nested value that Postgres or JSON can't represent."""
    stack = [(value, location)]
    while stack:
        member, path = stack.pop()
        if isinstance(member, str):
            yield from _check_text(member, path)
        elif isinstance(member, float) and not math.isfinite(member):
            yield Fault(
                format_pointer(path), "the number is too large for a double", "number_too_large"
            )
        elif isinstance(member, int) and not INT64_MIN <= member <= INT64_MAX:
            yield Fault(
                format_pointer(path), "the integer does not fit into 64 bits", "number_too_large"
            )
        elif isinstance(member, dict | list) and len(path) > MAX_DEPTH:
            yield Fault(
                format_pointer(path[:1]), f"nested deeper than {MAX_DEPTH} levels", "too_deep"
            )
        elif isinstance(member, dict):
            for name, child in member.items():
                yield from _check_text(name, (*path, name))
                stack.append((child, (*path, name)))
        elif isinstance(member, list):
            stack.extend((child, (*path, index)) for index, child in enumerate(member))


def _check_text(text: str, path: tuple[str | int, ...]) -> Iterator[Fault]:
    if "\x00" in text:
        yield Fault(format_pointer(path), "NUL can't be stored in Postgres", "unstorable_text")
