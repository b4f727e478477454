"""The declaration of a resource, from which everything else is derived.

class City(Resource, path="cities"):
    "A populated place."

    geonameid: Annotated[int, Key()]
    name: Annotated[str, Field(max_length=200)]
    country_code: Annotated[str, Field(pattern="^[A-Z]{2}$", max_length=2), References("countries")]
"""

from forebay.resource.declaration import Resource, discover
from forebay.resource.marks import Index, Indexed, Key, References, Unique
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

__all__ = [
    "FieldSpec",
    "Index",
    "Indexed",
    "Key",
    "Kind",
    "References",
    "Resource",
    "ResourceSpec",
    "Unique",
    "discover",
]
