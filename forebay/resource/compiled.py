"""Declarations as a file that a function reads in a millisecond, in the place of importing them.

Classes of pydantic take longer to import and make than all else of ours at a cold start. Whoever
builds a package has them, and writes down what was made of them: specs, and the schemas by which
pydantic-core reads bodies. What a schema calls (a validator of the declaration's own) is imported
with its module, declaration and all; upcasters are, when one is called.

The file is a pickle behind the release of pydantic-core that its schemas are for, which alone reads
them: code of ours beside code of ours, written when the package is built.
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
from forebay.resource.body import BodyReader, BodySchema
from forebay.resource.spec import Resources, ResourceSpec, retired_among

_PROTOCOL = 5
_HEADER = f"pydantic-core {pydantic_core.__version__}\n".encode()


@dataclass(frozen=True, slots=True)
class Declaration:
    """Where a resource's class is, to be imported by whoever needs more than was written down."""

    module: str
    name: str

    @property
    def declared_as(self) -> tuple[str, str]:
        """The module and the qualified name of the class."""
        return self.module, self.name

    def spec(self) -> ResourceSpec:
        """The spec as declared; raises DeclarationError where there is none of that name."""
        found = getattr(importlib.import_module(self.module), self.name, None)
        spec: ResourceSpec | None = getattr(found, "spec_", None)
        if spec is None:
            raise DeclarationError(f"{self.module} has no resource {self.name}")
        return spec

    def json_schema(self) -> Mapping[str, Any]:
        """The JSON Schema of the resource's bodies."""
        return self.spec().body.json_schema()

    def schema(self) -> BodySchema:
        """What its bodies are read by, made anew."""
        return self.spec().body.source.schema()

    def upcast(self, version: int, body: dict[str, Any]) -> dict[str, Any]:
        """A body of that version as one of the next."""
        return self.spec().upcasters[version](body)


@dataclass(frozen=True, slots=True)
class CompiledBody:
    """The source of a reader whose schema was made before."""

    ready: BodySchema
    declaration: Declaration

    @property
    def declared_as(self) -> tuple[str, str]:
        """The module and the qualified name of the resource's class."""
        return self.declaration.declared_as

    def schema(self) -> BodySchema:
        """What bodies and keys are read by."""
        return self.ready

    def json_schema(self) -> Mapping[str, Any]:
        """The JSON Schema of the same bodies."""
        return self.declaration.json_schema()


def dump(resources: Mapping[str, ResourceSpec]) -> bytes:
    """These resources for `load`.

    Args:
        resources: as `discover` finds them, by path.

    Raises:
        DeclarationError: a resource's class can't be found again by its name.
    """
    compiled = Resources(
        {path: _compiled(spec) for path, spec in resources.items()}, retired_among(resources)
    )
    return _HEADER + pickle.dumps(compiled, protocol=_PROTOCOL)


def load(data: bytes) -> Resources | None:
    """The resources by path, doing all that those do which were dumped.

    None if another release of pydantic-core than this one wrote them: import the declarations then.
    """
    if not data.startswith(_HEADER):
        return None
    found: Resources = pickle.loads(data[len(_HEADER) :])  # noqa: S301 - see above
    return found


def _compiled(spec: ResourceSpec) -> ResourceSpec:
    declaration = Declaration(*spec.body.source.declared_as)
    schema = spec.body.source.schema()
    if declaration.spec() is not spec:
        raise DeclarationError(
            f"{spec.name}: {declaration.module}.{declaration.name} is another class; declare each "
            "resource by a class statement of its own, under a name of its own"
        )
    try:
        pickle.loads(pickle.dumps(schema, protocol=_PROTOCOL))  # noqa: S301 - made here
    except (pickle.PicklingError, AttributeError, ImportError, TypeError):
        # It calls what has no name (a lambda, a function within another), so the class is imported.
        body = BodyReader(declaration)
    else:
        body = BodyReader(CompiledBody(schema, declaration))
    upcasters = {version: partial(declaration.upcast, version) for version in spec.upcasters}
    return replace(spec, body=body, upcasters=upcasters)
