"""The resources that this deployment serves: one file each, found by their being here."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.resource import Resources, compiled

if TYPE_CHECKING:
    from forebay.resource.shape import Recorded

#: In the packages of functions that have to start fast; never in a checkout.
COMPILED = "compiled.pickle"


@cache
def shapes() -> dict[str, Recorded]:
    """By a resource's path, what its schema versions looked like, as `make migration` notes it.

    Raises:
        forebay.errors.DeclarationError: the file is damaged.
    """
    from forebay.resource import shape  # noqa: PLC0415 - few ask for it

    file = Path(__file__).with_name("shapes.json")
    return shape.load(file.read_bytes()) if file.is_file() else {}


@cache
def load() -> Resources:
    """Every resource by its path, and the paths of the retired ones.

    Raises:
        forebay.errors.DeclarationError: a declaration can't work; names class and field.
    """
    file = Path(__file__).with_name(COMPILED)
    found = compiled.load(file.read_bytes()) if file.is_file() else None
    if found is None:
        from forebay.resource import discover  # noqa: PLC0415 - it imports pydantic

        found = discover(__name__, __path__)
    return found
