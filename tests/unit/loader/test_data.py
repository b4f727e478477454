"""`make load` sends bodies that the resources accept."""

import orjson

import resources
from loader.data import Item, read_cities, read_countries


def _is_valid(item: Item) -> bool:
    spec = resources.load()[item.resource]
    assert spec.key.name == item.key_name
    read = spec.body.validate(orjson.dumps(item.body))
    return bool(read.key == item.key)


def test_every_country_and_every_city_of_geonames_is_valid() -> None:
    every = [*read_countries(), *read_cities()]
    assert all(_is_valid(item) for item in every)
    assert len({(item.resource, item.key) for item in every}) == 252 + 34_006


def test_a_row_shows_exactly_the_sent_values() -> None:
    """Otherwise `find_statuses_in_lists` would find a difference in every row."""
    for item in (read_countries()[0], read_cities(1)[0]):
        columns = {column.name for column in resources.load()[item.resource].columns}
        assert set(item.body) == columns


def test_fewer_cities_are_the_largest_ones() -> None:
    largest = read_cities(3)
    assert [city.body["population"] for city in largest] == sorted(
        (city.body["population"] for city in read_cities()), reverse=True
    )[:3]
    assert read_cities(0) == []
