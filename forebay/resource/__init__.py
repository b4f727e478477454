"""Declarations of resources; routes, tables, validation and documentation are derived from them.

class City(Resource, path="cities"):
    "A populated place."

    geonameid: Annotated[int, Key()]
    name: Annotated[str, Field(max_length=200)]
    country_code: Annotated[str, Field(pattern="^[A-Z]{2}$", max_length=2), References("countries")]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.resource.attachment import Attachment, Media
from forebay.resource.marks import Index, Indexed, Key, References, Retired, Unique
from forebay.resource.spec import FieldSpec, Kind, Resources, ResourceSpec

if TYPE_CHECKING:
    from forebay.resource.declaration import Resource, discover

__all__ = [
    "Attachment",
    "FieldSpec",
    "Index",
    "Indexed",
    "Key",
    "Kind",
    "Media",
    "References",
    "Resource",
    "ResourceSpec",
    "Resources",
    "Retired",
    "Unique",
    "discover",
]


def __getattr__(name: str) -> object:
    """Import `Resource` and `discover` on first use: they need pydantic, a slow import."""
    if name not in {"Resource", "discover"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from forebay.resource import declaration  # noqa: PLC0415 - the purpose of this function

    return getattr(declaration, name)
