"""Compiled declarations: a file that a function loads in a millisecond instead of importing them.

At a cold start, pydantic and its classes take longer than all other imports of Forebay. The build
of a package imports the declarations and writes their specs and pydantic-core schemas to a file.
If a schema calls a validator that the declaration defines, loading the file imports the
declaration's module. Upcasters import it when they are called.

The file is a pickle. Its header names the release of pydantic-core that created the schemas; other
releases can't use them. The build writes it into the package with the code, so it is as trusted as
the code.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pydantic_core

from forebay.errors import DeclarationError
from forebay.resource.body import BodySchema, BodyValidator
from forebay.resource.spec import Resources, ResourceSpec, find_retired

_PROTOCOL = 5
#: Members of a core schema that name a definition: where it is, and where it is used.
_REFERENCES = frozenset({"ref", "schema_ref"})
_HEADER = f"pydantic-core {pydantic_core.__version__}\n".encode()


@dataclass(frozen=True, slots=True)
class Declaration:
    """The location of a resource's class, which is imported only if the file is not sufficient."""

    module: str
    name: str

    @property
    def declared_as(self) -> tuple[str, str]:
        """The module and the qualified name of the class."""
        return self.module, self.name

    def spec(self) -> ResourceSpec:
        """Import and return the spec; raise DeclarationError if the class does not exist."""
        declared = getattr(importlib.import_module(self.module), self.name, None)
        spec: ResourceSpec | None = getattr(declared, "spec_", None)
        if spec is None:
            raise DeclarationError(f"{self.module} has no resource {self.name}")
        return spec

    def json_schema(self) -> Mapping[str, Any]:
        """Return the JSON Schema of the resource's bodies."""
        return self.spec().body.json_schema()

    def schema(self) -> BodySchema:
        """Create the schemas from the declaration."""
        return self.spec().body.source.schema()

    def upcast(self, version: int, body: dict[str, Any]) -> dict[str, Any]:
        """Convert a body from this schema version to the next."""
        return self.spec().upcasters[version](body)

    def upcast_patch(self, version: int, body: dict[str, Any]) -> dict[str, Any]:
        """Convert the body of a patch from this schema version to the next."""
        return self.spec().patch_upcasters[version](body)


@dataclass(frozen=True, slots=True)
class CompiledBody:
    """A source with a compiled schema."""

    ready: BodySchema
    declaration: Declaration

    @property
    def declared_as(self) -> tuple[str, str]:
        """The module and the qualified name of the resource's class."""
        return self.declaration.declared_as

    def schema(self) -> BodySchema:
        """Return the compiled schemas."""
        return self.ready

    def json_schema(self) -> Mapping[str, Any]:
        """Return the JSON Schema of the bodies."""
        return self.declaration.json_schema()


def dump(resources: Mapping[str, ResourceSpec]) -> bytes:
    """Serialize resources for `load`.

    Args:
        resources: the result of `discover`.

    Raises:
        DeclarationError: a resource's class can't be imported by its name.
    """
    compiled = Resources(
        {path: _compile(spec) for path, spec in resources.items()}, find_retired(resources)
    )
    return _HEADER + pickle.dumps(compiled, protocol=_PROTOCOL)


def load(data: bytes) -> Resources | None:
    """Load resources that `dump` wrote; they behave like the declared ones.

    Returns:
        The resources by path; None if another release of pydantic-core wrote the file. The caller
        then imports the declarations.
    """
    if not data.startswith(_HEADER):
        return None
    resources: Resources = pickle.loads(data[len(_HEADER) :])  # noqa: S301 - as trusted as the code
    return resources


def _compile(spec: ResourceSpec) -> ResourceSpec:
    declaration = Declaration(*spec.body.source.declared_as)
    schema = _number_references(spec.body.source.schema())
    if declaration.spec() is not spec:
        raise DeclarationError(
            f"{spec.name}: {declaration.module}.{declaration.name} is a different class; declare "
            "each resource with a separate class statement and a distinct name"
        )
    try:
        pickle.loads(pickle.dumps(schema, protocol=_PROTOCOL))  # noqa: S301 - created here
    except (pickle.PicklingError, AttributeError, ImportError, TypeError):
        # The schema calls a lambda or a nested function, which pickle can't import by name.
        body = BodyValidator(declaration)
    else:
        body = BodyValidator(CompiledBody(schema, declaration))
    upcasters = {version: partial(declaration.upcast, version) for version in spec.upcasters}
    patch_upcasters = {
        version: partial(declaration.upcast_patch, version) for version in spec.patch_upcasters
    }
    return replace(spec, body=body, upcasters=upcasters, patch_upcasters=patch_upcasters)


def _number_references(schema: BodySchema) -> BodySchema:
    """The schema with numbers as the names of its definitions.

    pydantic's names contain addresses of memory, so each run would compile other bytes, and each
    deployment would replace functions without a change.
    """
    numbers: dict[str, str] = {}

    def rename(node: Any) -> Any:  # noqa: ANN401 - a part of a schema of pydantic-core
        if isinstance(node, dict):
            return {
                name: numbers.setdefault(part, f"definition-{len(numbers)}")
                if name in _REFERENCES and isinstance(part, str)
                else rename(part)
                for name, part in node.items()
            }
        if isinstance(node, list | tuple):
            return type(node)(map(rename, node))
        return node

    return replace(schema, item=rename(schema.item), key=rename(schema.key))
