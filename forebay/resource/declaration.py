"""The base class of resources, which validates each declaration at import."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, PydanticUserError

from forebay.errors import DeclarationError
from forebay.resource.body import BodyValidator
from forebay.resource.declared import DeclaredBody
from forebay.resource.fields import (
    MAX_KEY_LENGTH_WITH_ATTACHMENTS,
    RESERVED_NAMES,
    KeyDeclared,
    build_made_key,
    check_entry,
    read_field,
)
from forebay.resource.marks import Index, Retired
from forebay.resource.relations import Relation, find_relations, select_direct
from forebay.resource.spec import FieldSpec, Kind, Resources, ResourceSpec, Upcaster

_PATH = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
#: Paths under /v1 that the API uses or reserves.
_RESERVED_PATHS = frozenset({"docs", "openapi", "status", "health", "commands", "query"})
_MAX_IDENTIFIER = 48  # Postgres allows 63; index names combine table and column


class Resource(BaseModel):
    """Base class of resources. The docstring of a subclass is its description in the API.

    Class arguments:
        path: the path segment under /v1 (`cities`), and the `resource` of commands.
        schema_version: increase it if archived bodies no longer fit; requires an upcaster.
        upcasters: `{1: f}` converts a body of version 1 to version 2, and so on.
        patch_upcasters: the same for the bodies of patches, which have some fields only. Without
            one from its version, an old patch is rejected.
        indexes: indexes over several columns.
        scope_group: the name before the dot in the scopes for this resource; the path by default.
            Resources with one name share their scopes.

    Raises:
        DeclarationError: at import, if the declaration is invalid; names class and field.
    """

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True, frozen=True)

    spec_: ClassVar[ResourceSpec]

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Hide the class arguments from pydantic."""
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(  # type: ignore[override]
        cls,
        *,
        path: str | None = None,
        schema_version: int = 1,
        upcasters: Mapping[int, Upcaster] | None = None,
        patch_upcasters: Mapping[int, Upcaster] | None = None,
        indexes: Sequence[Index] = (),
        scope_group: str | None = None,
    ) -> None:
        """Create the class's spec; pydantic calls this when the fields are complete."""
        if not isinstance(path, str) or not _PATH.fullmatch(path) or len(path) > _MAX_IDENTIFIER:
            raise DeclarationError(
                f'{cls.__name__}: path={path!r} must be a lower-case path segment such as "cities"'
            )
        if path in _RESERVED_PATHS:
            raise DeclarationError(f"{cls.__name__}: the path {path!r} is reserved for the API")
        if path in RESERVED_NAMES:
            raise DeclarationError(
                f"{cls.__name__}: the path {path!r} is the name of a query parameter"
            )
        key, fields = _read_fields(cls)
        cls.spec_ = ResourceSpec(
            name=cls.__name__,
            description=(cls.__doc__ or "").strip(),
            path=path,
            table=path.replace("-", "_"),
            key=key or build_made_key(),
            key_is_made=key is None,
            fields=fields,
            indexes=_check_indexes(cls, indexes, fields),
            schema_version=schema_version,
            upcasters=_check_upcasters(cls, schema_version, upcasters or {}),
            body=BodyValidator(DeclaredBody(cls, key or build_made_key(), fields)),
            patch_upcasters=_check_patch_upcasters(cls, schema_version, patch_upcasters or {}),
            scope_group=_check_scope_group(cls, path if scope_group is None else scope_group),
        )


def _check_scope_group(cls: type[Resource], name: object) -> str:
    """Return the name if it can be part of a scope, and is none of the API's own."""
    if not isinstance(name, str) or not _PATH.fullmatch(name) or len(name) > _MAX_IDENTIFIER:
        raise DeclarationError(
            f'{cls.__name__}: scope_group={name!r} must be a lower-case name such as "geography"'
        )
    if name in _RESERVED_PATHS:
        raise DeclarationError(
            f"{cls.__name__}: the scope_group {name!r} is reserved for the API's own scopes"
        )
    return name


def _read_fields(cls: type[Resource]) -> tuple[FieldSpec | None, tuple[FieldSpec, ...]]:
    key: FieldSpec | None = None
    fields: list[FieldSpec] = []
    try:
        declared = cls.model_fields
    except PydanticUserError as exc:
        raise DeclarationError(f"{cls.__name__}: {exc.message}") from exc
    for name, info in declared.items():
        declaration = read_field(cls.__name__, name, info)
        if isinstance(declaration, KeyDeclared):
            if key is not None:
                raise DeclarationError(
                    f"{cls.__name__}.{name}: {key.name} is the key already; a resource has one key"
                )
            key = declaration.spec
        else:
            fields.append(declaration)
    if not fields:
        raise DeclarationError(f"{cls.__name__}: declares no field except its key")
    if key is None and any(field.name == "id" for field in fields):
        raise DeclarationError(
            f'{cls.__name__}.id: the generated key has this name; mark the field with "Key()" '
            "to make it the key, or rename it"
        )
    _check_attachments(cls, key, fields)
    return key, tuple(fields)


def _check_attachments(
    cls: type[Resource], key: FieldSpec | None, fields: Sequence[FieldSpec]
) -> None:
    has_attachments = any(field.media is not None for field in fields)
    if key is None or not has_attachments or key.max_length is None:
        return
    if key.max_length > MAX_KEY_LENGTH_WITH_ATTACHMENTS:
        raise DeclarationError(
            f"{cls.__name__}.{key.name}: with attachments, a str key requires max_length of at "
            f"most {MAX_KEY_LENGTH_WITH_ATTACHMENTS}, because it is a part of their objects' names"
        )


def _check_indexes(
    cls: type[Resource], indexes: Sequence[Index], fields: Sequence[FieldSpec]
) -> tuple[Index, ...]:
    fields_by_name = {field.name: field for field in fields}
    for index in indexes:
        if not isinstance(index, Index) or not index.columns:
            raise DeclarationError(
                f'{cls.__name__}: indexes must contain Index("a", "b"), not {index!r}'
            )
        for column in index.columns:
            if column not in fields_by_name:
                raise DeclarationError(
                    f"{cls.__name__}.{column}: an index names this field, but it is not declared"
                )
            if fields_by_name[column].kind is Kind.JSON:
                raise DeclarationError(f"{cls.__name__}.{column}: such an index can't contain JSON")
            if fields_by_name[column].sql_type == "text" and not fields_by_name[column].choices:
                raise DeclarationError(
                    f"{cls.__name__}.{column}: a str in an index requires max_length, because "
                    "index entries are small"
                )
        check_entry(cls.__name__, [fields_by_name[column] for column in index.columns])
    return tuple(indexes)


def _check_upcasters(
    cls: type[Resource], schema_version: int, upcasters: Mapping[int, Upcaster]
) -> Mapping[int, Upcaster]:
    if type(schema_version) is not int or schema_version < 1:
        raise DeclarationError(
            f"{cls.__name__}: schema_version={schema_version!r} must be a whole number of 1 or more"
        )
    expected = set(range(1, schema_version))
    if set(upcasters) != expected:
        raise DeclarationError(
            f"{cls.__name__}: schema_version={schema_version} requires upcasters from versions "
            f"{sorted(expected) or 'none'}, but {sorted(upcasters) or 'none'} are declared"
        )
    for version, upcaster in upcasters.items():
        if not callable(upcaster):
            raise DeclarationError(f"{cls.__name__}: the upcaster from {version} is not callable")
    return dict(upcasters)


def _check_patch_upcasters(
    cls: type[Resource], schema_version: int, upcasters: Mapping[int, Upcaster]
) -> Mapping[int, Upcaster]:
    unknown = [version for version in upcasters if version not in range(1, schema_version)]
    if unknown:
        raise DeclarationError(
            f"{cls.__name__}: schema_version={schema_version} has no upcaster of patches from "
            f"version {unknown[0]!r}"
        )
    for version, upcaster in upcasters.items():
        if not callable(upcaster):
            raise DeclarationError(
                f"{cls.__name__}: the upcaster of patches from {version} is not callable"
            )
    return dict(upcasters)


def discover(package: str, search_path: Iterable[str]) -> Resources:
    """Return all resources declared in a package's modules, by path and sorted by path.

    Raises:
        DeclarationError: two resources share a path or table, a reference or its name is invalid,
            or a resource is both declared and retired.
    """
    specs: dict[str, ResourceSpec] = {}
    retired_paths: set[str] = set()
    for module_info in sorted(pkgutil.iter_modules(search_path), key=lambda info: info.name):
        module = importlib.import_module(f"{package}.{module_info.name}")
        for cls in vars(module).values():
            if (
                isinstance(cls, type)
                and issubclass(cls, Resource)
                and cls.__module__ == module.__name__
            ):
                _add(specs, cls)
            elif isinstance(cls, Retired):
                retired_paths.add(_check_retired(module_info.name, cls))
    for spec in specs.values():
        if spec.path in retired_paths:
            raise DeclarationError(
                f"{spec.name}: {spec.path!r} is declared and retired; remove Retired({spec.path!r})"
            )
        _check_references(spec, specs, retired_paths)
    for path, starting in find_relations(specs).items():
        _check_names(specs[path], select_direct(starting))
    return Resources(dict(sorted(specs.items())), retired_paths)


def _add(specs: dict[str, ResourceSpec], cls: type[Resource]) -> None:
    spec = cls.spec_
    for other in specs.values():
        if spec.table == other.table:
            raise DeclarationError(
                f"{spec.name}: path {spec.path!r} clashes with {other.path!r} of {other.name}"
            )
    specs[spec.path] = spec


def _check_retired(module: str, retired: Retired) -> str:
    if not isinstance(retired.path, str) or not _PATH.fullmatch(retired.path):
        raise DeclarationError(
            f'{module}: Retired({retired.path!r}) must name a resource\'s path such as "cities"'
        )
    return retired.path


def _check_references(
    spec: ResourceSpec, resources: Mapping[str, ResourceSpec], retired_paths: Collection[str]
) -> None:
    for field in spec.fields:
        if field.references is None:
            continue
        target = resources.get(field.references.path)
        label = f"{spec.name}.{field.name}"
        if field.references.path in retired_paths:
            raise DeclarationError(
                f"{label}: refers to {field.references.path!r}, which is retired; remove the "
                "reference"
            )
        if target is None:
            raise DeclarationError(
                f"{label}: refers to {field.references.path!r}, which is not a resource"
            )
        if target.key.kind is not field.kind:
            raise DeclarationError(
                f"{label}: is {field.kind.value}, but the key of {target.path} is "
                f"{target.key.kind.value}"
            )


def _check_names(spec: ResourceSpec, relations: Sequence[Relation]) -> None:
    """Refuse a reference's name that is invalid or already names something else in a request."""
    for field in spec.fields:
        name = field.references.name if field.references else None
        if name is None:
            continue
        label = f"{spec.name}.{field.name}: the reference's name {name!r}"
        if not _PATH.fullmatch(name) or len(name) > _MAX_IDENTIFIER:
            raise DeclarationError(f'{label} must be a lower-case word such as "country"')
        if name in RESERVED_NAMES:
            raise DeclarationError(f"{label} is the name of a query parameter")
        if spec.column(name) is not None:
            raise DeclarationError(f"{label} is the name of a field")
        if any(name in relation.names for relation in relations if relation.hint != field.name):
            raise DeclarationError(f"{label} is the name of another relation")
        if any(name in relation.names and relation.many for relation in relations):
            raise DeclarationError(f"{label} is the name of the reverse relation")
