"""The resources of this deployment; each module of the package declares resources."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.resource import Resources, compiled

if TYPE_CHECKING:
    from forebay.resource.shape import Recorded

#: File of compiled declarations. Only packages of functions contain it, for fast cold starts.
COMPILED = "compiled.pickle"


@cache
def shapes() -> dict[str, Recorded]:
    """Return the shapes of all schema versions, which `make migration` records, by path.

    Raises:
        forebay.errors.DeclarationError: the file is damaged.
    """
    from forebay.resource import shape  # noqa: PLC0415 - few callers need it

    file = Path(__file__).with_name("shapes.json")
    return shape.load(file.read_bytes()) if file.is_file() else {}


@cache
def load() -> Resources:
    """Return all resources by path, and the paths of retired resources.

    Raises:
        forebay.errors.DeclarationError: a declaration is invalid; names class and field.
    """
    file = Path(__file__).with_name(COMPILED)
    found = compiled.load(file.read_bytes()) if file.is_file() else None
    if found is None:
        from forebay.resource import discover  # noqa: PLC0415 - it imports pydantic

        found = discover(__name__, __path__)
    return found
