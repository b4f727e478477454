"""`Read-After` with the address of a status: on lists, forms and items."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest

from forebay.command import Command
from forebay.errors import NotYetVisibleError
from forebay.ids import IdSource
from tests.fixtures.commands import CITY, city, command_id
from tests.fixtures.reading import Reader, close, reader_of
from tests.fixtures.tables import Database

SCOPED = {"FOREBAY_AUTHORIZATION": "cognito"}


@contextmanager
def reading(database: Database, primary: str = "", **changes: str) -> Iterator[Reader]:
    reader = reader_of(database.url, primary or database.url, None, **changes)
    try:
        yield reader
    finally:
        close(reader)


def status_of(command: Command) -> str:
    key = quote(str(command.key), safe="")
    return f"/v1/{command.resource}/{key}/commands/{command.id}"


def country(key: str) -> Command:
    body = {"name": "n", "continent": "EU", "capital": None, "population": 1, "area_km2": 1.0}
    return Command(IdSource().make(create=False), "put", "countries", key, 1, "t", None, body)


def caller(*paths: str) -> dict[str, object]:
    """API Gateway's context of a caller with the scopes to read these resources."""
    scope = " ".join(f"forebay/{path}.read" for path in paths)
    return {"authorizer": {"claims": {"scope": scope}}}


@pytest.mark.parametrize("prefix", ["", "https://api.example.com", "/stage", "http://h:8/a/b"])
def test_a_list_shows_a_command_that_is_settled(
    database: Database, reader: Reader, prefix: str
) -> None:
    written = city(7, key=5)
    database.apply([written])
    address = f"{prefix}{status_of(written)}"
    for response in (
        reader.get("cities", Read_After=address),
        reader.ask("cities", "limit=5", Read_After=address),
        reader.get("cities", key="5", Read_After=address),
        reader.get("cities", method="HEAD", Read_After=address),
    ):
        assert response.status == 200
    assert "Read-After" in reader.get("cities", Read_After=address).headers["Vary"]


def test_a_list_after_a_command_that_is_not_settled_raises_so_that_nothing_is_cached(
    database: Database, reader: Reader
) -> None:
    database.apply([city(7, key=5)])
    pending = Command(IdSource().make(create=False), "put", "cities", 5, 1, "t", None, CITY)
    address = status_of(pending)
    with pytest.raises(NotYetVisibleError):
        reader.get("cities", Read_After=address)
    with pytest.raises(NotYetVisibleError):
        reader.ask("cities", "", Read_After=address)
    with pytest.raises(NotYetVisibleError):
        reader.get("cities", key="5", Read_After=address)
    database.apply([pending], source="commands/b.gz")
    assert reader.get("cities", Read_After=address).status == 200


def test_a_list_is_never_read_from_the_primary(database: Database) -> None:
    pending = Command(IdSource().make(create=False), "put", "cities", 5, 1, "t", None, CITY)
    no_primary = "postgresql://nobody@127.0.0.1:1/none"
    with reading(database, no_primary) as reader, pytest.raises(NotYetVisibleError):
        reader.get("cities", Read_After=status_of(pending))


def test_a_key_of_any_text_is_found_again(database: Database, reader: Reader) -> None:
    written = country("XK")
    database.apply([written])
    assert reader.get("countries", Read_After=status_of(written)).status == 200


@pytest.mark.parametrize(
    "value",
    [
        command_id(7),
        f'"{command_id(7)}-0123456789abcdef"',
        "yesterday",
        "/v1/cities/5",
        "/v1/cities/5/commands/",
        f"/v1/nothing/5/commands/{command_id(7)}",
        f"/v1/cities/5/commands/{command_id(7)}?x=1",
        f"/v1/cities/5/commands/{command_id(7)}, /v1/cities/6/commands/{command_id(7)}",
        "/v1/cities/5/commands/ffffffff-ffff-7fff-bfff-ffffffffffff",
        "/v1/cities/5/commands/x",
        f"/v1/cities/x/commands/{command_id(7)}",
        f"/v1/countries/%FF/commands/{command_id(7)}",
        "",
    ],
)
def test_a_list_takes_the_address_of_a_status_only(reader: Reader, value: str) -> None:
    response = reader.get("cities", Read_After=value)
    assert response.status == 400
    assert json.loads(response.body)["code"] in {"bad_header", "bad_key"}


def test_a_command_of_another_resource_takes_the_scope_to_read_it(database: Database) -> None:
    """Otherwise the wait would reveal the status of a command, and with it the item's version."""
    database.apply([written := country("XK")])
    address = status_of(written)
    with reading(database, **SCOPED) as scoped:
        for paths, status in ((("cities",), 400), (("cities", "countries"), 200)):
            response = scoped.get("cities", caller=caller(*paths), Read_After=address)
            assert response.status == status
        # An item's cache key does not contain the caller, so the item may not depend on scopes.
        item = scoped.get("cities", key="5", caller=caller("countries"), Read_After=address)
        assert item.status == 400
    with reading(database) as free:
        assert free.get("cities", Read_After=address).status == 200
