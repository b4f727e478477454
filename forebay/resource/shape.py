"""The shapes of archived bodies: what each schema version of each resource looked like.

A class says what bodies look like now. The archive keeps bodies of earlier days, so a committed
file keeps their shapes; a change that old bodies don't fit is refused before it is deployed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import orjson

from forebay.errors import DeclarationError
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec, retired_among
from forebay.text_files import decode_text

#: The file's place in a checkout and in the functions' packages.
FILE: Final = "resources/shapes.json"

#: Members of a JSON Schema that decide which values there are; the others describe.
_DECISIVE = frozenset(
    {
        *("type", "enum", "const", "format", "pattern", "minLength", "maxLength", "examples"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
        *("properties", "required", "additionalProperties", "anyOf", "oneOf", "allOf"),
    }
)
#: In the place of a schema that holds itself.
NEVER: Final[Mapping[str, Any]] = {"enum": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldShape:
    """What the values of one field looked like."""

    kind: Kind
    #: Of the column, as Postgres prints it.
    column: str
    nullable: bool
    required: bool
    default: Any = None
    max_length: int | None = None
    precision: int | None = None
    scale: int | None = None
    #: The JSON Schemas by which its values were accepted, each limit that it ever had.
    schemas: tuple[Mapping[str, Any], ...] = ()

    @property
    def filled(self) -> tuple[Any] | None:
        """What a body gets that lacks the field, in a tuple; None if it may not lack it."""
        return None if self.required and not self.nullable else (self.default,)


@dataclass(frozen=True, slots=True)
class Shape:
    """What bodies of one schema version looked like, and their keys."""

    key: FieldShape
    fields: Mapping[str, FieldShape]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is recorded of one resource."""

    table: str
    versions: Mapping[int, Shape]
    #: Names of the indexes and constraints that its declaration asked for.
    indexes: tuple[str, ...] = ()


def shape_of(spec: ResourceSpec) -> Shape:
    """The shape that a declaration gives to bodies now."""
    schema = spec.body.json_schema()
    definitions = schema.get("$defs", {})

    def field(column: FieldSpec) -> FieldShape:
        told = _decisive(schema["properties"].get(column.name, {}), definitions, ())
        return FieldShape(
            kind=column.kind,
            column=column.sql_type,
            nullable=column.nullable,
            required=column.required,
            default=column.default,
            max_length=column.max_length,
            precision=column.precision,
            scale=column.scale,
            schemas=(told,),
        )

    return Shape(field(spec.key), {column.name: field(column) for column in spec.fields})


def updated(
    recorded: Mapping[str, Recorded],
    resources: Mapping[str, ResourceSpec],
    indexes: Mapping[str, Sequence[str]],
) -> dict[str, Recorded]:
    """What to record after a change that `problems` has nothing against.

    Args:
        recorded: what is recorded now, by path.
        resources: the declarations.
        indexes: by path, the names of what they ask for.
    """
    found = dict(recorded)
    for path, spec in resources.items():
        before = recorded[path].versions if path in recorded else {}
        now = shape_of(spec)
        if spec.schema_version in before:
            now = _joined(before[spec.schema_version], now)
        versions = {**before, spec.schema_version: now}
        found[path] = Recorded(spec.table, versions, tuple(sorted(indexes[path])))
    return dict(sorted(found.items()))


def problems(
    recorded: Mapping[str, Recorded], resources: Mapping[str, ResourceSpec]
) -> Iterator[str]:
    """What archived bodies would not fit, each with what to do about it.

    Args:
        recorded: what earlier declarations looked like, by path.
        resources: the declarations as they are now.
    """
    for path, before in recorded.items():
        spec = resources.get(path)
        if spec is not None:
            yield from _problems_of(before, spec)
        elif path not in retired_among(resources):
            yield (
                f"{path} was declared and is gone, but its commands stay in the archive. Write "
                f'`{path.replace("-", "_")} = Retired("{path}")` in the place of its class. If '
                f"nothing was ever written to it, delete its entry in {FILE}"
            )


def load(text: bytes) -> dict[str, Recorded]:
    """The recorded shapes by path.

    Args:
        text: of the file.

    Raises:
        DeclarationError: the file is damaged.
    """
    try:
        return {path: _recorded(found) for path, found in orjson.loads(decode_text(text)).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise DeclarationError(
            f"{FILE} can't be read ({exc!r}); take it from the last commit, then run make migration"
        ) from exc


def dump(recorded: Mapping[str, Recorded]) -> bytes:
    """The file's text."""
    found = {
        path: {
            "table": one.table,
            "indexes": list(one.indexes),
            "versions": {
                str(version): {
                    "key": _members(shape.key),
                    "fields": {name: _members(field) for name, field in shape.fields.items()},
                }
                for version, shape in sorted(one.versions.items())
            },
        }
        for path, one in sorted(recorded.items())
    }
    return orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n"


def _problems_of(before: Recorded, spec: ResourceSpec) -> Iterator[str]:
    version = spec.schema_version
    newer = [number for number in before.versions if number > version]
    if newer:
        yield (
            f"{spec.name}: schema_version is {version}, but {max(newer)} is recorded, and commands "
            f"of it would be held. Set schema_version={max(newer)}. If no command of it was ever "
            f"accepted, delete its entry in {FILE}"
        )
        return
    now = shape_of(spec)
    latest = before.versions[max(before.versions)]
    for reason in _key_reasons(latest.key, now.key):
        yield (
            f"{spec.name}.{spec.key.name}: the key {reason}; a key can't be brought up to date. "
            f'Declare another path, and Retired("{spec.path}")'
        )
    if version not in before.versions:
        return
    reasons = list(_reasons(before.versions[version], now))
    if reasons:
        yield (
            f"{spec.name}: bodies of schema version {version} in the archive and on their way do "
            f"not fit any more: {'; '.join(reasons)}. Set schema_version={version + 1} and add an "
            f"upcaster from {version} (docs/resources.md, schema versions). If no command of "
            f"version {version} was ever accepted, delete its entry in {FILE}"
        )


def _reasons(before: Shape, now: Shape) -> Iterator[str]:
    gone = [name for name in before.fields if name not in now.fields]
    for name in gone:
        yield f"{name} is gone"
    for name, field in now.fields.items():
        old = before.fields.get(name)
        if old is None:
            if field.filled is None:
                yield f"{name} is new, is never null and has no default"
            continue
        for reason in _narrowing(old, field):
            yield f"{name} {reason}"
        if old.filled is not None and field.filled != old.filled:
            yield f"{name} has another default, which older bodies would get"


def _narrowing(old: FieldShape, new: FieldShape) -> Iterator[str]:
    """Why a column can't hold what it held."""
    if new.kind is not old.kind:
        yield f"was {old.kind.value} and is {new.kind.value}"
        return
    if old.nullable and not new.nullable:
        yield "is not null any more"
    if new.max_length is not None and (old.max_length is None or new.max_length < old.max_length):
        yield f"is at most {new.max_length} characters long"
    if (old.column, new.column) == ("bigint", "integer"):
        yield "is of 32 bits"
    if new.kind is Kind.DECIMAL:
        whole = (new.precision or 0) - (new.scale or 0)
        whole_before = (old.precision or 0) - (old.scale or 0)
        if whole < whole_before or (new.scale or 0) < (old.scale or 0):
            yield "has fewer digits"


def _key_reasons(old: FieldShape, new: FieldShape) -> Iterator[str]:
    yield from _narrowing(replace(old, nullable=False), replace(new, nullable=False))


def _joined(before: Shape, now: Shape) -> Shape:
    """The shape of bodies that either shape may have given."""
    fields = {
        name: _joined_field(before.fields[name], field) if name in before.fields else field
        for name, field in now.fields.items()
    }
    return Shape(_joined_field(before.key, now.key), fields)


def _joined_field(before: FieldShape, now: FieldShape) -> FieldShape:
    limits = [_without_examples(schema) for schema in now.schemas]
    others = [one for one in before.schemas if _without_examples(one) not in limits]
    return replace(now, schemas=(*others, *now.schemas))


def _without_examples(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in schema.items() if name != "examples"}


def _decisive(schema: Any, definitions: Mapping[str, Any], within: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON
    """A JSON Schema without what only describes, and with its definitions in their places."""
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in within:
            return NEVER
        return _decisive(definitions.get(name, {}), definitions, (*within, name))

    def inner(value: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(value, list):
            return [inner(one) for one in value]
        return _decisive(value, definitions, within)

    found = {name: value for name, value in schema.items() if name in _DECISIVE}
    for name in ("items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf"):
        if name in found:
            found[name] = inner(found[name])
    if "properties" in found:
        found["properties"] = {name: inner(one) for name, one in found["properties"].items()}
    return found


def _recorded(found: Mapping[str, Any]) -> Recorded:
    versions = {
        int(version): Shape(
            _field(shape["key"]), {name: _field(field) for name, field in shape["fields"].items()}
        )
        for version, shape in found["versions"].items()
    }
    return Recorded(found["table"], versions, tuple(found["indexes"]))


def _field(members: Mapping[str, Any]) -> FieldShape:
    schemas = tuple(members.get("schemas", ()))
    return FieldShape(**{**members, "kind": Kind(members["kind"]), "schemas": schemas})


def _members(field: FieldShape) -> dict[str, Any]:
    return {name: value for name, value in asdict(field).items() if value is not None}
