"""The resources that this deployment serves: one file each, found by their being here."""

from __future__ import annotations

from functools import cache

from forebay.resource import ResourceSpec, discover


@cache
def load() -> dict[str, ResourceSpec]:
    """Every resource by its path.

    Raises:
        forebay.errors.DeclarationError: a declaration can't work; names class and field.
    """
    return discover(__name__, __path__)
