"""The pydantic schemas of a declaration, which validate its bodies and keys."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from annotated_types import Ge, Le, MinLen
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    create_model,
)
from pydantic_core import CoreConfig, CoreSchema

from forebay.resource.body import (
    INT64_MAX,
    INT64_MIN,
    BodySchema,
    ItemModel,
    check_plain_key,
    convert_integral,
)
from forebay.resource.fields import annotate, build_pydantic_type
from forebay.resource.nested import forbid_unknown, forbid_unknown_in_definitions
from forebay.resource.spec import FieldSpec, Kind
from forebay.resource.strict import add_strict_text


class DeclaredBody:
    """A source that creates the schema from the resource's class."""

    def __init__(
        self, declared: type[BaseModel], key: FieldSpec, fields: Sequence[FieldSpec]
    ) -> None:
        self._declared = declared
        self._key = key
        self._fields = fields

    @property
    def declared_as(self) -> tuple[str, str]:
        """The module and the qualified name of the resource's class."""
        return self._declared.__module__, self._declared.__qualname__

    def schema(self) -> BodySchema:
        """Create the schemas for bodies and keys."""
        item = add_strict_text(
            _build_item_schema(forbid_unknown(self._model.__pydantic_core_schema__))
        )
        return BodySchema(
            item=item,
            config=_find_config(item),
            key=add_strict_text(TypeAdapter(self._key_type).core_schema),
            key_name=self._key.name,
            json_fields=_list_names(self._fields, Kind.JSON),
            timestamps=_list_names(self._fields, Kind.TIMESTAMP),
            integers=_list_names(self._fields, Kind.INTEGER),
            decimals={
                field.name: (field.precision or 0, field.scale or 0)
                for field in self._fields
                if field.kind is Kind.DECIMAL
            },
        )

    def json_schema(self) -> Mapping[str, Any]:
        """Return the JSON Schema of the bodies; their members include the key."""
        schema = forbid_unknown_in_definitions(self._model.model_json_schema(mode="validation"))
        key = self._declared.model_fields.get(self._key.name)
        additions = {
            "description": self._key.description,
            "examples": key.examples if key is not None else None,
        }
        schema["properties"][self._key.name] |= {
            n: value for n, value in additions.items() if value
        }
        return schema

    @cached_property
    def _model(self) -> type[BaseModel]:
        declared = self._declared.model_fields
        definitions: dict[str, Any] = {
            field.name: (
                annotate(build_pydantic_type(declared[field.name]), _list_additions(field)),
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
                # The default would serialize an infinity inside JSON as null and hide it.
                ser_json_inf_nan="constants",
            ),
            **definitions,
        )

    @property
    def _key_type(self) -> Any:  # noqa: ANN401 - a type form has no static type
        info = self._declared.model_fields.get(self._key.name)
        if info is None:
            return uuid.UUID
        metadata = (*info.metadata, *_list_additions(self._key))
        if self._key.kind is Kind.TEXT:
            metadata = (*metadata, MinLen(1), AfterValidator(check_plain_key))
        return annotate(info.annotation, metadata)


def _build_item_schema(schema: CoreSchema) -> CoreSchema:
    """Return a model's schema that creates an `ItemModel` instead of the model.

    If the model contains other models or recursive types, its schema is inside `definitions`.
    """
    item_schema: dict[str, Any] = dict(schema)
    if item_schema["type"] == "definitions":
        item_schema["schema"] = _build_item_schema(item_schema["schema"])
    else:
        item_schema["cls"] = ItemModel
        for name in ("ref", "metadata"):  # they name the model, and validation doesn't need them
            item_schema.pop(name, None)
    return item_schema


def _find_config(schema: CoreSchema) -> CoreConfig:
    members: dict[str, Any] = dict(schema)
    config: CoreConfig = (
        members["config"] if members["type"] == "model" else _find_config(members["schema"])
    )
    return config


def _list_names(fields: Sequence[FieldSpec], kind: Kind) -> tuple[str, ...]:
    return tuple(field.name for field in fields if field.kind is kind)


def _list_additions(field: FieldSpec) -> list[Ge | Le | BeforeValidator]:
    """Return an integer column's additions: default bounds of 64 bits, and `5.0` read as 5."""
    if field.kind is not Kind.INTEGER:
        return []
    low = [Ge(INT64_MIN)] if field.minimum is None else []
    high = [Le(INT64_MAX)] if field.maximum is None else []
    return [*low, *high, BeforeValidator(convert_integral)]
