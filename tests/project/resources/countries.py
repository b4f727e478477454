"""Countries, keyed by their ISO 3166-1 alpha-2 code."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from forebay.resource import Indexed, Key, Resource


class Country(Resource, path="countries"):
    """A country or dependent territory."""

    code: Annotated[str, Field(pattern=r"^[A-Z]{2}$", max_length=2, examples=["DE"]), Key()]
    name: Annotated[str, Field(min_length=1, max_length=100, examples=["Germany"]), Indexed()]
    iso3: Annotated[str, Field(pattern=r"^[A-Z]{3}$", max_length=3, examples=["DEU"])]
    capital: Annotated[str | None, Field(max_length=100)] = None
    continent: Annotated[
        str, Field(pattern=r"^[A-Z]{2}$", max_length=2, examples=["EU"]), Indexed()
    ]
    currency: Annotated[str | None, Field(pattern=r"^[A-Z]{3}$", max_length=3)] = None
    population: Annotated[int, Field(ge=0)]
    area_km2: Annotated[float, Field(ge=0)]
