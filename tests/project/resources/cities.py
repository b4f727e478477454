"""Cities, keyed by their GeoNames id."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from forebay.resource import Indexed, Key, References, Resource


class City(Resource, path="cities"):
    """A populated place, as GeoNames knows it."""

    geonameid: Annotated[int, Field(ge=1, le=2**31 - 1), Key()]
    name: Annotated[str, Field(min_length=1, max_length=200, examples=["Aachen"]), Indexed()]
    country_code: Annotated[
        str,
        Field(pattern=r"^[A-Z]{2}$", max_length=2, examples=["DE"]),
        References("countries", name="country"),
        Indexed(),
    ]
    population: Annotated[int, Field(ge=0), Indexed()]
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    timezone: Annotated[str, Field(min_length=1, max_length=64, examples=["Europe/Berlin"])]
