"""Reads a client's JSON into a body that the archive can carry and Postgres can store."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import quote

from annotated_types import Ge, Le, MinLen
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    create_model,
)

from forebay.command import Body, KeyValue
from forebay.resource.fields import INT64_MAX, INT64_MIN, annotated, pydantic_type
from forebay.resource.reading import BodyInvalidError, Fault, ReadBody
from forebay.resource.spec import FieldSpec, Kind

_DELETE = 0x7F
MAX_DEPTH = 64  # levels of a JSON value; people nest a handful, attackers thousands


class BodyReader:
    """Validates bodies and keys of one resource.

    Its models are built on first use: a cold start pays only for the resource it serves.
    """

    def __init__(
        self, declared: type[BaseModel], key: FieldSpec, fields: Sequence[FieldSpec]
    ) -> None:
        self._declared = declared
        self._key = key
        self._fields = fields
        self._json_fields = _names(fields, Kind.JSON)
        self._timestamps = _names(fields, Kind.TIMESTAMP)
        self._decimals = _names(fields, Kind.DECIMAL)

    def read(self, raw: bytes) -> ReadBody:
        """The body of one item.

        Args:
            raw: well-formed JSON text of one object, UTF-8.

        Raises:
            BodyInvalidError: with every fault at once.
        """
        try:
            item = self._model.model_validate_json(raw, strict=True)
        except ValidationError as exc:
            raise BodyInvalidError(
                [
                    Fault(pointer(error["loc"]), error["msg"])
                    for error in exc.errors(include_url=False, include_context=False)
                ]
            ) from None
        body = item.model_dump(mode="json", exclude={self._key.name})
        faults = list(self._normalize(item, body))
        faults += self._unstorable(body, nul_possible=b"\\u0000" in raw)
        if faults:
            raise BodyInvalidError(faults)
        key = getattr(item, self._key.name)
        return ReadBody(body, str(key) if isinstance(key, uuid.UUID) else key)

    def read_key(self, text: str) -> KeyValue:
        """The key that a path segment (already percent-decoded) names.

        Raises:
            ValueError: no such key can exist; the message says what a key looks like. Only the
                canonical spelling is one: two spellings of a key would be two cache entries.
        """
        try:
            value = self._key_adapter.validate_strings(text, strict=False)
        except ValidationError as exc:
            raise ValueError(exc.errors(include_url=False)[0]["msg"]) from None
        if str(value) != text:
            raise ValueError(f"Input should be in canonical form: {value}")
        return value if isinstance(value, int) else str(value)

    def _normalize(self, item: BaseModel, body: Body) -> Iterator[Fault]:
        """Gives the body those spellings of its values that Postgres takes, and gives back."""
        for name in self._timestamps:
            moment: dt.datetime | None = getattr(item, name)
            if moment is None:
                continue
            try:  # Postgres knows offsets up to 15:59 only
                body[name] = moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
            except OverflowError:
                yield Fault(pointer((name,)), "in UTC it is outside the years 1 to 9999")
        for name in self._decimals:
            if getattr(item, name) == 0:
                body[name] = "0"  # a zero may have an exponent beyond all bounds

    def _unstorable(self, body: Body, *, nul_possible: bool) -> Iterator[Fault]:
        for name in body if nul_possible else self._json_fields:
            yield from _walk(body[name], (name,))

    @cached_property
    def _model(self) -> type[BaseModel]:
        declared = self._declared.model_fields
        definitions: dict[str, Any] = {
            field.name: (
                annotated(pydantic_type(declared[field.name]), _column_bounds(field)),
                declared[field.name],
            )
            for field in self._fields
        }
        definitions[self._key.name] = (self._key_type, Field(default=None))
        return create_model(
            f"{self._declared.__name__}Body",
            __config__=ConfigDict(
                extra="forbid",
                strict=True,
                allow_inf_nan=False,
                # An infinity inside of JSON must be found, not become null.
                ser_json_inf_nan="constants",
            ),
            **definitions,
        )

    @cached_property
    def _key_adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self._key_type)

    @cached_property
    def _key_type(self) -> Any:  # noqa: ANN401 - a type form has no static type
        info = self._declared.model_fields.get(self._key.name)
        if info is None:
            return uuid.UUID
        metadata = (*info.metadata, *_column_bounds(self._key))
        if self._key.kind is Kind.TEXT:
            metadata = (*metadata, MinLen(1), AfterValidator(_plain_key))
        return annotated(info.annotation, metadata)


def _names(fields: Sequence[FieldSpec], kind: Kind) -> list[str]:
    return [field.name for field in fields if field.kind is kind]


def _column_bounds(field: FieldSpec) -> list[Ge | Le]:
    """The bounds of a column's type where the declaration sets none itself."""
    if field.kind is not Kind.INTEGER:
        return []
    low = [Ge(INT64_MIN)] if field.minimum is None else []
    high = [Le(INT64_MAX)] if field.maximum is None else []
    return [*low, *high]


def pointer(location: Sequence[str | int]) -> str:
    """The location as a JSON Pointer in URI fragment form (RFC 6901 §6): `#/tags/0`."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in location)
    return "#" + "".join("/" + quote(part, safe="~!$&'()*+,;=:@") for part in parts)


def _walk(value: object, location: tuple[str | int, ...]) -> Iterator[Fault]:
    """What Postgres can't store or JSON can't carry, in a value of any depth."""
    stack = [(value, location)]
    while stack:
        found, where = stack.pop()
        if isinstance(found, str):
            yield from _text_faults(found, where)
        elif isinstance(found, float) and not math.isfinite(found):
            yield Fault(pointer(where), "the number is too large for a double", "number_too_large")
        elif isinstance(found, int) and not INT64_MIN <= found <= INT64_MAX:
            yield Fault(pointer(where), "the integer does not fit 64 bits", "number_too_large")
        elif isinstance(found, dict | list) and len(where) > MAX_DEPTH:
            yield Fault(pointer(where[:1]), f"nested deeper than {MAX_DEPTH} levels", "too_deep")
        elif isinstance(found, dict):
            for name, inner in found.items():
                yield from _text_faults(name, (*where, name))
                stack.append((inner, (*where, name)))
        elif isinstance(found, list):
            stack.extend((inner, (*where, index)) for index, inner in enumerate(found))


def _text_faults(text: str, where: tuple[str | int, ...]) -> Iterator[Fault]:
    if "\x00" in text:
        yield Fault(pointer(where), "NUL can't be stored by Postgres", "unstorable_text")


def _plain_key(key: str) -> str:
    """A str key must survive a URL's path as it is, however often proxies decode it."""
    if any(char in "%/\\?#" or ord(char) < ord(" ") or ord(char) == _DELETE for char in key):
        raise ValueError("a key has no control characters and none of % / \\ ? #")
    if key in {".", ".."}:
        raise ValueError("a key is not a dot segment, which URLs fold away")
    return key
