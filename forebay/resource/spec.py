"""Specs of declared resources: plain frozen data that all other forms are derived from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, cast

from forebay.ids import are_uuids, is_uuid
from forebay.resource.attachment import Media
from forebay.resource.body import BodyValidator
from forebay.resource.marks import Index, Indexed, References

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class Kind(StrEnum):
    """The kinds of values in fields."""

    TEXT = "text"
    INTEGER = "integer"
    FLOAT = "float"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"
    UUID = "uuid"
    JSON = "json"


#: The kinds of fields that a patch can increment.
NUMBERS: Final = frozenset({Kind.INTEGER, Kind.DECIMAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """A field of a resource, or its key."""

    name: str
    kind: Kind
    #: The field may contain None (JSON null).
    nullable: bool = False
    required: bool = True
    #: The default as a JSON value; defined only if `required` is False.
    default: Any = None
    max_length: int | None = None
    #: The type of a JSON field; None for other kinds.
    shape: Literal["list", "dict"] | None = None
    #: The kind of a JSON list's elements; JSON if they are lists, objects or undeclared.
    items: Kind | None = None
    #: The values of an Enum or Literal; empty otherwise.
    choices: tuple[str, ...] = ()
    #: Total and fractional digits of a decimal.
    precision: int | None = None
    scale: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    #: A B-tree index.
    indexed: bool = False
    #: Indexes of other kinds.
    indexes: tuple[Indexed, ...] = ()
    unique: bool = False
    references: References | None = None
    #: The allowed types and sizes of an attachment; None for other fields.
    media: Media | None = None
    description: str | None = None

    @property
    def sql_type(self) -> str:
        """The column's type, as Postgres prints it."""
        match self.kind:
            case Kind.TEXT:
                return "text" if self.max_length is None else f"varchar({self.max_length})"
            case Kind.INTEGER:
                return "integer" if self._fits_four_bytes() else "bigint"
            case Kind.DECIMAL:
                return f"numeric({self.precision},{self.scale})"
            case _:
                return _SQL_TYPES[self.kind]

    @property
    def comparable(self) -> bool:
        """True if the column as a whole supports `<` and `order=`."""
        return self.kind is not Kind.JSON

    def _fits_four_bytes(self) -> bool:
        low, high = self.minimum, self.maximum
        return low is not None and high is not None and low >= -(2**31) and high < 2**31


_SQL_TYPES = {
    Kind.FLOAT: "double precision",
    Kind.BOOLEAN: "boolean",
    Kind.DATE: "date",
    Kind.TIMESTAMP: "timestamptz",
    Kind.UUID: "uuid",
    Kind.JSON: "jsonb",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSpec:
    """A resource: its path, table, key and fields."""

    #: The class's name, for messages and the documentation.
    name: str
    description: str
    #: The path segment under /v1, and the `resource` of commands.
    path: str
    table: str
    key: FieldSpec
    #: The server generates the key (a UUID) if a client posts an item without a key.
    key_is_made: bool
    #: All fields except the key, in declared order.
    fields: tuple[FieldSpec, ...]
    indexes: tuple[Index, ...]
    schema_version: int
    upcasters: Mapping[int, Upcaster]
    body: BodyValidator
    #: Upcasters of the bodies of patches, which hold some fields only. A version may lack one.
    patch_upcasters: Mapping[int, Upcaster] = field(default_factory=dict)
    #: The name before the dot in the scopes of callers (`cities.read`); resources may share it.
    scope_group: str = ""
    #: The columns by name.
    _by_name: Mapping[str, FieldSpec] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scope_group", self.scope_group or self.path)
        object.__setattr__(self, "_by_name", {column.name: column for column in self.columns})

    def __hash__(self) -> int:
        """Hash the path: upcasters are a dictionary, which has no hash."""
        return hash(self.path)

    @property
    def attachments(self) -> tuple[FieldSpec, ...]:
        """The fields with content in an object in S3."""
        return tuple(field for field in self.fields if field.media is not None)

    @property
    def columns(self) -> tuple[FieldSpec, ...]:
        """The key and the fields: the columns of a row in answers."""
        return (self.key, *self.fields)

    def fits_key(self, key: int | str) -> bool:
        """Return True if an archived key has the column's type and canonical spelling."""
        if self.key.kind is Kind.INTEGER:
            return isinstance(key, int)
        if self.key.kind is Kind.UUID:
            return isinstance(key, str) and is_uuid(key)
        limit = self.key.max_length
        return isinstance(key, str) and (limit is None or len(key) <= limit)

    def fit_keys(self, keys: Sequence[int | str]) -> bool:
        """Return True if `fits_key` holds for all keys; ten times faster than single calls."""
        kinds = set(map(type, keys))
        if self.key.kind is Kind.INTEGER:
            return kinds <= {int}
        if not kinds <= {str}:
            return False
        texts = cast("Sequence[str]", keys)
        if self.key.kind is Kind.UUID:
            return are_uuids(texts)
        limit = self.key.max_length
        return limit is None or max(map(len, texts), default=0) <= limit

    def column(self, name: str) -> FieldSpec | None:
        """Return the column with this name, if any."""
        return self._by_name.get(name)


class Resources(dict[str, ResourceSpec]):
    """The declared resources by path, and the paths of retired resources."""

    def __init__(
        self, declared: Mapping[str, ResourceSpec] | None = None, retired: Iterable[str] = ()
    ) -> None:
        super().__init__(declared or {})
        self.retired = frozenset(retired)


def find_retired(resources: Mapping[str, ResourceSpec]) -> frozenset[str]:
    """Return the paths of the retired resources; their commands are skipped."""
    return resources.retired if isinstance(resources, Resources) else frozenset()
