"""Loads the declarations of a package of resources, such as `resources/`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forebay.resource import compiled
from forebay.resource.spec import Resources

if TYPE_CHECKING:
    from forebay.resource.shape import Recorded

#: File of compiled declarations. Only packages of functions contain it, for fast cold starts.
COMPILED: Final = "compiled.pickle"


@cache
def load(name: str, folder: str) -> Resources:
    """Return all resources by path, and the paths of retired resources.

    Args:
        name: of the package.
        folder: with its modules.

    Raises:
        forebay.errors.DeclarationError: a declaration is invalid; names class and field.
    """
    file = Path(folder, COMPILED)
    resources = compiled.load(file.read_bytes()) if file.is_file() else None
    if resources is None:
        from forebay.resource import discover  # noqa: PLC0415 - it imports pydantic

        resources = discover(name, [folder])
    return resources


@cache
def load_shapes(folder: str) -> dict[str, Recorded]:
    """Return the shapes of all schema versions, which `make migration` records, by path.

    Raises:
        forebay.errors.DeclarationError: the file is damaged.
    """
    from forebay.resource import shape  # noqa: PLC0415 - few callers need it

    file = Path(folder, "shapes.json")
    return shape.load(file.read_bytes()) if file.is_file() else {}
