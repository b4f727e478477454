"""The shapes of archived bodies, by resource and schema version.

A declaration describes current bodies only, but the archive contains older ones. A committed file
therefore records the shapes of all versions. A change that old bodies don't fit is refused before
it is deployed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import orjson

from forebay.errors import DeclarationError
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec, find_retired
from forebay.text_files import decode_text

#: The file's place in a checkout and in the functions' packages.
FILE: Final = "resources/shapes.json"

#: Members of a JSON Schema that constrain values or give examples; the others are descriptions.
_DECISIVE = frozenset(
    {
        *("type", "enum", "const", "format", "pattern", "minLength", "maxLength", "examples"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
        *("properties", "required", "additionalProperties", "anyOf", "oneOf", "allOf"),
    }
)
#: Replaces the inner occurrence of a recursive schema.
NEVER: Final[Mapping[str, Any]] = {"enum": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldShape:
    """The shape of one field's values."""

    kind: Kind
    #: The column's type, as Postgres prints it.
    column: str
    nullable: bool
    required: bool
    default: Any = None
    max_length: int | None = None
    precision: int | None = None
    scale: int | None = None
    #: The JSON Schemas that accepted its values, including those with earlier limits.
    schemas: tuple[Mapping[str, Any], ...] = ()

    @property
    def filled(self) -> tuple[Any] | None:
        """The value for a body without the field, in a tuple; None if the field is mandatory."""
        return None if self.required and not self.nullable else (self.default,)


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of bodies and keys of one schema version."""

    key: FieldShape
    fields: Mapping[str, FieldShape]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The recorded shapes of one resource."""

    table: str
    versions: Mapping[int, Shape]
    #: Names of the indexes and constraints that it declares.
    indexes: tuple[str, ...] = ()


def describe_shape(spec: ResourceSpec) -> Shape:
    """Return the shape of bodies under the current declaration."""
    schema = spec.body.json_schema()
    definitions = schema.get("$defs", {})

    def field(column: FieldSpec) -> FieldShape:
        field_schema = _reduce_schema(schema["properties"].get(column.name, {}), definitions, ())
        return FieldShape(
            kind=column.kind,
            column=column.sql_type,
            nullable=column.nullable,
            required=column.required,
            default=column.default,
            max_length=column.max_length,
            precision=column.precision,
            scale=column.scale,
            schemas=(field_schema,),
        )

    return Shape(field(spec.key), {column.name: field(column) for column in spec.fields})


def update_record(
    recorded: Mapping[str, Recorded],
    resources: Mapping[str, ResourceSpec],
    indexes: Mapping[str, Sequence[str]],
) -> dict[str, Recorded]:
    """Return the new record after a change for which `find_problems` reports no problem.

    Args:
        recorded: the current record, by path.
        resources: the declarations.
        indexes: the names of their indexes and constraints, by path.
    """
    record = dict(recorded)
    for path, spec in resources.items():
        versions_before = recorded[path].versions if path in recorded else {}
        shape = describe_shape(spec)
        if spec.schema_version in versions_before:
            shape = _join_shapes(versions_before[spec.schema_version], shape)
        versions = {**versions_before, spec.schema_version: shape}
        record[path] = Recorded(spec.table, versions, tuple(sorted(indexes[path])))
    return dict(sorted(record.items()))


def find_problems(
    recorded: Mapping[str, Recorded], resources: Mapping[str, ResourceSpec]
) -> Iterator[str]:
    """Yield a message for each change that archived bodies don't fit, with a remedy.

    Args:
        recorded: the shapes of earlier declarations, by path.
        resources: the current declarations.
    """
    for path, record in recorded.items():
        spec = resources.get(path)
        if spec is not None:
            yield from _find_problems(record, spec)
        elif path not in find_retired(resources):
            yield (
                f"{path} is not declared any more, but its commands stay in the archive. Replace "
                f'its class by `{path.replace("-", "_")} = Retired("{path}")`. If it never '
                f"accepted a command, delete its entry in {FILE}"
            )


def load(text: bytes) -> dict[str, Recorded]:
    """Parse the file of recorded shapes.

    Args:
        text: the content of the file.

    Returns:
        The recorded shapes by path.

    Raises:
        DeclarationError: the file is damaged.
    """
    try:
        recorded = orjson.loads(decode_text(text)).items()
        return {path: _read_recorded(members) for path, members in recorded}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise DeclarationError(
            f"{FILE} can't be read ({exc!r}); restore it from git, then run make migration"
        ) from exc


def dump(recorded: Mapping[str, Recorded]) -> bytes:
    """Return the content of the file."""
    document = {
        path: {
            "table": resource.table,
            "indexes": list(resource.indexes),
            "versions": {
                str(version): {
                    "key": _list_members(shape.key),
                    "fields": {name: _list_members(field) for name, field in shape.fields.items()},
                }
                for version, shape in sorted(resource.versions.items())
            },
        }
        for path, resource in sorted(recorded.items())
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _find_problems(recorded: Recorded, spec: ResourceSpec) -> Iterator[str]:
    version = spec.schema_version
    newer = [number for number in recorded.versions if number > version]
    if newer:
        yield (
            f"{spec.name}: schema_version is {version}, but {max(newer)} is recorded, and its "
            f"commands would be held. Set schema_version={max(newer)}. If no command of that "
            f"version was ever accepted, delete its entry in {FILE}"
        )
        return
    shape = describe_shape(spec)
    latest = recorded.versions[max(recorded.versions)]
    for reason in _find_key_reasons(latest.key, shape.key):
        yield (
            f"{spec.name}.{spec.key.name}: the key {reason}; keys can't be upcast. Declare "
            f'another path, and Retired("{spec.path}")'
        )
    if version not in recorded.versions:
        return
    reasons = list(_find_reasons(recorded.versions[version], shape))
    if reasons:
        yield (
            f"{spec.name}: bodies of schema version {version} in the archive and in transit "
            f"do not fit any more: {'; '.join(reasons)}. Set schema_version={version + 1} and "
            f"add an upcaster from {version} (docs/resources.md, schema versions). If no command "
            f"of version {version} was ever accepted, delete its entry in {FILE}"
        )


def _find_reasons(old_shape: Shape, new_shape: Shape) -> Iterator[str]:
    removed = [name for name in old_shape.fields if name not in new_shape.fields]
    for name in removed:
        yield f"{name} was removed"
    for name, field in new_shape.fields.items():
        old = old_shape.fields.get(name)
        if old is None:
            if field.filled is None:
                yield f"{name} is new, not nullable and has no default"
            continue
        for reason in _find_narrowing(old, field):
            yield f"{name} {reason}"
        if old.filled is not None and field.filled != old.filled:
            yield f"{name} has another default, which would change older bodies"


def _find_narrowing(old: FieldShape, new: FieldShape) -> Iterator[str]:
    """Yield the reasons why a column can't store its former values."""
    if new.kind is not old.kind:
        yield f"was {old.kind.value} and is {new.kind.value}"
        return
    if old.nullable and not new.nullable:
        yield "can't be null any more"
    if new.max_length is not None and (old.max_length is None or new.max_length < old.max_length):
        yield f"is at most {new.max_length} characters long"
    if (old.column, new.column) == ("bigint", "integer"):
        yield "has 32 bits only"
    if new.kind is Kind.DECIMAL:
        integer_digits = (new.precision or 0) - (new.scale or 0)
        old_integer_digits = (old.precision or 0) - (old.scale or 0)
        if integer_digits < old_integer_digits or (new.scale or 0) < (old.scale or 0):
            yield "has fewer digits"


def _find_key_reasons(old: FieldShape, new: FieldShape) -> Iterator[str]:
    yield from _find_narrowing(replace(old, nullable=False), replace(new, nullable=False))


def _join_shapes(old_shape: Shape, new_shape: Shape) -> Shape:
    """Return the current shape, with the JSON Schemas of both shapes."""
    fields = {
        name: _join_fields(old_shape.fields[name], field) if name in old_shape.fields else field
        for name, field in new_shape.fields.items()
    }
    return Shape(_join_fields(old_shape.key, new_shape.key), fields)


def _join_fields(old_field: FieldShape, new_field: FieldShape) -> FieldShape:
    limits = [_remove_examples(schema) for schema in new_field.schemas]
    old_schemas = [each for each in old_field.schemas if _remove_examples(each) not in limits]
    return replace(new_field, schemas=(*old_schemas, *new_field.schemas))


def _remove_examples(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in schema.items() if name != "examples"}


def _reduce_schema(schema: Any, definitions: Mapping[str, Any], parents: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON
    """Return a JSON Schema without descriptions and with its references resolved."""
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in parents:
            return NEVER
        return _reduce_schema(definitions.get(name, {}), definitions, (*parents, name))

    def reduce(value: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(value, list):
            return [reduce(element) for element in value]
        return _reduce_schema(value, definitions, parents)

    reduced = {name: value for name, value in schema.items() if name in _DECISIVE}
    for name in ("items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf"):
        if name in reduced:
            reduced[name] = reduce(reduced[name])
    if "properties" in reduced:
        reduced["properties"] = {
            name: reduce(element) for name, element in reduced["properties"].items()
        }
    return reduced


def _read_recorded(document: Mapping[str, Any]) -> Recorded:
    versions = {
        int(version): Shape(
            _read_field(shape["key"]),
            {name: _read_field(field) for name, field in shape["fields"].items()},
        )
        for version, shape in document["versions"].items()
    }
    return Recorded(document["table"], versions, tuple(document["indexes"]))


def _read_field(members: Mapping[str, Any]) -> FieldShape:
    schemas = tuple(members.get("schemas", ()))
    return FieldShape(**{**members, "kind": Kind(members["kind"]), "schemas": schemas})


def _list_members(field: FieldShape) -> dict[str, Any]:
    return {name: value for name, value in asdict(field).items() if value is not None}
