"""Requests for cities, as a client would write them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import orjson

from bench.load.generator import Request

_FIRST_KEY = 1_000_000_000
_keys = itertools.count(_FIRST_KEY)


def make_cities() -> Callable[[int], Request]:
    """PUTs of cities with new keys."""

    def make(_: int) -> Request:
        key = next(_keys)
        city = {
            "geonameid": key,
            "name": f"City number {key}",
            "country_code": "DE",
            "population": key % 1_000_000,
            "latitude": 50.5,
            "longitude": 6.25,
            "timezone": "Europe/Berlin",
        }
        return Request("PUT", f"/cities/{key}", orjson.dumps(city))

    return make


def build_reads(keys: list[int]) -> Callable[[int], Request]:
    """GETs of these cities in turn."""

    def make(number: int) -> Request:
        return Request("GET", f"/cities/{keys[number % len(keys)]}")

    return make
