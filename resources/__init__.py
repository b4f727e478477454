"""The resources that this deployment serves: one file each, found by their being here."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from forebay.resource import ResourceSpec, compiled

#: In the packages of functions that have to start fast; never in a checkout.
COMPILED = "compiled.pickle"


@cache
def load() -> dict[str, ResourceSpec]:
    """Every resource by its path.

    Raises:
        forebay.errors.DeclarationError: a declaration can't work; names class and field.
    """
    file = Path(__file__).with_name(COMPILED)
    found = compiled.load(file.read_bytes()) if file.is_file() else None
    if found is None:
        from forebay.resource import discover  # noqa: PLC0415 - it imports pydantic

        found = discover(__name__, __path__)
    return found
