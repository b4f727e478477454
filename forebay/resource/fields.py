"""Conversion of a declared field into its spec: kind, limits and marks.

A field that a table can't represent is refused.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
import types
import typing
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from forebay.errors import DeclarationError
from forebay.resource.attachment import Attachment, Media
from forebay.resource.body import INT64_MAX, INT64_MIN, get_message
from forebay.resource.marks import Indexed, Key, References, Unique
from forebay.resource.spec import FieldSpec, Kind

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_MAX_NAME = 48  # Postgres allows 63; index names combine table and column
#: Query parameters that are not columns: PostgREST's and Forebay's.
RESERVED_NAMES = frozenset(
    [
        "select",
        "order",
        "limit",
        "offset",
        "and",
        "or",
        "not",
        "columns",
        "on_conflict",
        "cursor",
        "any",
        "all",
    ]
)
#: Names below an item that have routes of their own.
RESERVED_ATTACHMENTS = frozenset({"commands"})
#: The greatest length of a str key of a resource with attachments: the names of their objects
#: contain it, and S3 allows 1,024 bytes.
MAX_KEY_LENGTH_WITH_ATTACHMENTS = 200
MAX_KEY_LENGTH = 255  # characters; with it a key fits any B-tree index entry and a URL
_MAX_VARCHAR = 1_000_000
# Postgres: BTMaxItemSize of nbtree.h for a page of 8 KiB, without the header of the entry. A larger
# entry fails with "index row size 2712 exceeds btree version 4 maximum 2704".
_MAX_ENTRY_BYTES = 2_696
_TEXT_HEADER_BYTES = 7  # length, and alignment of the next column
_CHARACTER_BYTES = 4  # of UTF-8, at most
_FIXED_BYTES = 16  # a UUID; every other kind is smaller
_LANGUAGE = re.compile(r"[a-z][a-z_]{0,30}")
_PURPOSES = {"search": Kind.TEXT, "trigram": Kind.TEXT, "contains": Kind.JSON}
_MAX_PRECISION = 1000  # numeric's own limit

_PLAIN: dict[Any, Kind] = {
    str: Kind.TEXT,
    int: Kind.INTEGER,
    float: Kind.FLOAT,
    Decimal: Kind.DECIMAL,
    bool: Kind.BOOLEAN,
    dt.date: Kind.DATE,
    dt.datetime: Kind.TIMESTAMP,
    uuid.UUID: Kind.UUID,
    list: Kind.JSON,
    dict: Kind.JSON,
    Attachment: Kind.JSON,
}


@dataclass(frozen=True, slots=True)
class KeyDeclared:
    """The spec of the field with the mark `Key`."""

    spec: FieldSpec


def build_made_key() -> FieldSpec:
    """Return the spec of a key that the server generates: a UUID named `id`."""
    return FieldSpec(name="id", kind=Kind.UUID, description="Made by the server.")


def read_field(owner: str, name: str, info: FieldInfo) -> FieldSpec | KeyDeclared:
    """Convert a declared field into its spec.

    Raises:
        DeclarationError: the field is invalid; the message names class and field.
    """
    label = f"{owner}.{name}"
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise DeclarationError(
            f"{label}: a field's name begins with a-z and has at most {_MAX_NAME} characters of "
            "a-z, 0-9 and _"
        )
    if name in RESERVED_NAMES:
        raise DeclarationError(f"{label}: {name!r} is the name of a query parameter")
    if info.alias or info.validation_alias or info.serialization_alias:
        raise DeclarationError(f"{label}: aliases are not supported")
    annotation, nullable = _split_nullable(label, info.annotation)
    spec = FieldSpec(
        name=name,
        kind=_choose_kind(label, annotation),
        nullable=nullable,
        required=info.is_required(),
        description=info.description,
    )
    spec = _add_shape(_add_limits(label, spec, annotation, info), annotation)
    spec = _add_marks(label, spec, info)
    spec = _add_media(label, spec, annotation, info)
    if any(isinstance(mark, Key) for mark in info.metadata):
        return KeyDeclared(_check_key(label, spec))
    return spec if spec.required else replace(spec, default=_read_default(label, info))


def build_pydantic_type(info: FieldInfo) -> Any:  # noqa: ANN401 - a type form has no static type
    """Return the annotation for validation: as declared, but a datetime must have a time zone."""
    return _require_aware(info.annotation)


def annotate(annotation: Any, metadata: Iterable[Any]) -> Any:  # noqa: ANN401
    """Return `Annotated[annotation, *metadata]`, or the annotation if there is no metadata."""
    parts = (annotation, *metadata)
    return typing.Annotated[parts] if len(parts) > 1 else annotation


def _require_aware(annotation: Any) -> Any:  # noqa: ANN401
    if annotation is dt.datetime:
        return AwareDatetime
    if get_origin(annotation) in (Union, types.UnionType):
        return Union[tuple(_require_aware(part) for part in get_args(annotation))]  # noqa: UP007 - built
    return annotation


def _split_nullable(label: str, annotation: Any) -> tuple[Any, bool]:  # noqa: ANN401
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if len(parts) != 1 or len(parts) == len(get_args(annotation)):
        raise DeclarationError(f"{label}: a union other than `X | None` has no column type")
    inner_type = parts[0]
    if get_origin(inner_type) is typing.Annotated:
        raise DeclarationError(
            f"{label}: write Annotated[X | None, …], with limits and marks outside the union"
        )
    return inner_type, True


def _choose_kind(label: str, annotation: Any) -> Kind:  # noqa: ANN401
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        if not all(isinstance(value, str) for value in get_args(annotation)):
            raise DeclarationError(f"{label}: a Literal's values must be strings")
        return Kind.TEXT
    if isinstance(origin, type) and issubclass(origin, enum.Enum):
        if not all(isinstance(member.value, str) for member in origin):
            raise DeclarationError(f"{label}: an Enum's values must be strings")
        return Kind.TEXT
    kind = _PLAIN.get(origin)
    if kind is None:
        name = getattr(annotation, "__name__", annotation)
        raise DeclarationError(
            f"{label}: {name} has no column type; use str, int, float, Decimal, bool, date, "
            "datetime, UUID, Enum, Literal, list, dict or Attachment, each with or without `| None`"
        )
    return kind


def _add_limits(label: str, spec: FieldSpec, annotation: Any, info: FieldInfo) -> FieldSpec:  # noqa: ANN401
    limits: dict[str, Any] = {}
    for mark in info.metadata:
        for name in ("max_length", "ge", "gt", "le", "lt", "max_digits", "decimal_places"):
            value = getattr(mark, name, None)
            if value is not None:
                limits[name] = value
    if spec.kind is Kind.TEXT:
        length = limits.get("max_length")
        if length is not None and not 1 <= length <= _MAX_VARCHAR:
            raise DeclarationError(f"{label}: max_length must be 1 to {_MAX_VARCHAR}")
        return replace(spec, max_length=length, choices=_list_choices(annotation))
    if spec.kind is Kind.INTEGER:
        low = limits.get("ge", limits["gt"] + 1 if "gt" in limits else None)
        high = limits.get("le", limits["lt"] - 1 if "lt" in limits else None)
        if (low is not None and low < INT64_MIN) or (high is not None and high > INT64_MAX):
            raise DeclarationError(f"{label}: its bounds do not fit into 64 bits")
        return replace(spec, minimum=low, maximum=high)
    if spec.kind is Kind.DECIMAL:
        precision, scale = limits.get("max_digits"), limits.get("decimal_places")
        if precision is None or scale is None or not 0 <= scale <= precision <= _MAX_PRECISION:
            raise DeclarationError(
                f"{label}: a Decimal requires Field(max_digits=…, decimal_places=…) for the "
                "column's numeric(p, s)"
            )
        return replace(spec, precision=precision, scale=scale)
    return spec


def _add_shape(spec: FieldSpec, annotation: Any) -> FieldSpec:  # noqa: ANN401
    if spec.kind is not Kind.JSON:
        return spec
    if (get_origin(annotation) or annotation) in {dict, Attachment}:
        return replace(spec, shape="dict")
    return replace(spec, shape="list", items=_choose_item_kind(annotation))


def _choose_item_kind(declared: Any) -> Kind:  # noqa: ANN401
    """Return the kind of a list's elements, which determines how filters parse them."""
    item: Any = next(iter(get_args(declared)), None)
    if get_origin(item) is typing.Annotated:  # typing flattens nested Annotated
        item = get_args(item)[0]
    if get_origin(item) is Literal:
        return Kind.TEXT if all(isinstance(value, str) for value in get_args(item)) else Kind.JSON
    if isinstance(item, type) and issubclass(item, enum.Enum):
        return Kind.TEXT if all(isinstance(member.value, str) for member in item) else Kind.JSON
    return _PLAIN.get(get_origin(item) or item, Kind.JSON)


def _list_choices(annotation: Any) -> tuple[str, ...]:  # noqa: ANN401
    if get_origin(annotation) is Literal:
        return tuple(str(value) for value in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return tuple(str(member.value) for member in annotation)
    return ()


def _add_marks(label: str, spec: FieldSpec, info: FieldInfo) -> FieldSpec:
    unique = any(isinstance(mark, Unique) for mark in info.metadata)
    marks = tuple(mark for mark in info.metadata if isinstance(mark, Indexed))
    indexed = any(mark.purpose == "order" for mark in marks)
    references = next((mark for mark in info.metadata if isinstance(mark, References)), None)
    for mark in info.metadata:
        if isinstance(mark, type) and issubclass(mark, (Key, Indexed, Unique, References)):
            raise DeclarationError(f"{label}: write {mark.__name__}(), with parentheses")
    for mark in marks:
        _check_purpose(label, spec, mark)
    if (unique or indexed or references) and spec.kind is Kind.JSON:
        raise DeclarationError(
            f'{label}: JSON can\'t be a key, an order or a reference; Indexed("contains") supports '
            "containment filters"
        )
    unbounded = spec.kind is Kind.TEXT and spec.max_length is None and not spec.choices
    if (unique or indexed) and unbounded:
        raise DeclarationError(
            f"{label}: an indexed str requires max_length, because index entries are small"
        )
    if unique or indexed:
        check_entry(label, [spec])
    other_marks = tuple(mark for mark in marks if mark.purpose != "order")
    return replace(spec, unique=unique, indexed=indexed, indexes=other_marks, references=references)


def _add_media(label: str, spec: FieldSpec, annotation: Any, info: FieldInfo) -> FieldSpec:  # noqa: ANN401
    marks = [mark for mark in info.metadata if isinstance(mark, Media)]
    if Media in info.metadata:
        raise DeclarationError(f'{label}: write Media("image/png", …), with the allowed types')
    if annotation is not Attachment:
        if marks:
            raise DeclarationError(f"{label}: Media(…) is for a field of the type Attachment")
        return spec
    if len(marks) != 1:
        raise DeclarationError(
            f'{label}: an Attachment requires Media("image/png", max_bytes=5_000_000), with the '
            "allowed types and the maximum size"
        )
    fault = marks[0].find_fault()
    if fault is not None:
        raise DeclarationError(f"{label}: {fault}")
    if not spec.nullable:
        raise DeclarationError(
            f"{label}: write Attachment | None: an item exists before its upload, and null removes "
            "an attachment"
        )
    if spec.name in RESERVED_ATTACHMENTS:
        raise DeclarationError(f"{label}: the path of its upload is the path of other routes")
    if spec.indexes:
        raise DeclarationError(f"{label}: an Attachment can't be indexed")
    return replace(spec, media=marks[0])


def _check_purpose(label: str, spec: FieldSpec, mark: Indexed) -> None:
    kind = _PURPOSES.get(mark.purpose)
    if kind is None and mark.purpose != "order":
        raise DeclarationError(
            f"{label}: Indexed({mark.purpose!r}) must be one of order, {', '.join(_PURPOSES)}"
        )
    if kind is not None and spec.kind is not kind:
        noun = "a str" if kind is Kind.TEXT else "a list or dict"
        raise DeclarationError(f"{label}: Indexed({mark.purpose!r}) is for {noun}")
    if not _LANGUAGE.fullmatch(mark.language):
        raise DeclarationError(
            f"{label}: the language must be a text search configuration of Postgres such as "
            f'"english", not {mark.language!r}'
        )


def check_entry(where: str, columns: Sequence[FieldSpec]) -> None:
    """Refuse columns with values that may exceed an entry of a B-tree index.

    An entry has at most 2,704 bytes (a third of a page of 8 KiB), including a header of 8 bytes.
    Postgres may compress a long text, but the compressed size is not bounded.

    Raises:
        DeclarationError: a value may be too large.
    """
    largest = sum(map(_count_entry_bytes, columns))
    if largest > _MAX_ENTRY_BYTES:
        texts = [column for column in columns if column.kind is Kind.TEXT and not column.choices]
        other_bytes = largest - sum(map(_count_entry_bytes, texts))
        spare = (_MAX_ENTRY_BYTES - other_bytes) // max(len(texts), 1) - _TEXT_HEADER_BYTES
        each = "" if len(texts) == 1 else " each"
        raise DeclarationError(
            f"{where}: a value can have {largest:,} bytes, but an index entry has at most "
            f"{_MAX_ENTRY_BYTES:,}; max_length can be {max(spare, 0) // _CHARACTER_BYTES}{each}"
            " (a character takes up to 4 bytes)"
        )


def _count_entry_bytes(column: FieldSpec) -> int:
    """Return the maximum bytes of a value in an index entry, including alignment."""
    if column.choices:
        return _TEXT_HEADER_BYTES + max(len(choice.encode()) for choice in column.choices)
    if column.kind is Kind.TEXT:
        return _TEXT_HEADER_BYTES + _CHARACTER_BYTES * (column.max_length or 0)
    if column.kind is Kind.DECIMAL:  # four digits in two bytes
        return _TEXT_HEADER_BYTES + ((column.precision or 0) // 4 + 4) * 2
    return _FIXED_BYTES


def _check_key(label: str, spec: FieldSpec) -> FieldSpec:
    if spec.kind not in (Kind.INTEGER, Kind.TEXT):
        raise DeclarationError(f"{label}: a key must be an int or a str")
    if spec.nullable or not spec.required:
        raise DeclarationError(f"{label}: a key can't be null and can't have a default")
    if spec.kind is Kind.TEXT and not (spec.max_length and spec.max_length <= MAX_KEY_LENGTH):
        raise DeclarationError(
            f"{label}: a str key requires max_length of at most {MAX_KEY_LENGTH}"
        )
    if spec.references:
        raise DeclarationError(
            f"{label}: a key can't be a reference, because relations start from fields; declare "
            "a separate field for the reference"
        )
    if spec.unique or spec.indexed or spec.indexes:
        raise DeclarationError(f"{label}: a key is always unique and indexed; remove the mark")
    return spec


def _read_default(label: str, info: FieldInfo) -> Any:  # noqa: ANN401 - any JSON value
    if info.default_factory not in {None, list, dict}:
        raise DeclarationError(
            f"{label}: a default_factory other than list or dict could give a body a different "
            "value in each replay; write the value itself"
        )
    default = info.get_default(call_default_factory=True)
    adapter: TypeAdapter[Any] = TypeAdapter(annotate(build_pydantic_type(info), info.metadata))
    try:
        return adapter.dump_python(adapter.validate_python(default, strict=True), mode="json")
    except ValidationError as exc:
        problem = get_message(exc.errors(include_url=False)[0])
        raise DeclarationError(
            f"{label}: the default {default!r} is not valid: {problem}"
        ) from None
