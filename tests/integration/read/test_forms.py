"""`POST /query/{resource}`: queries too long for a URL, with bounds, uncached, with pages."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from forebay.http import Response
from forebay.query.grammar import MAX_FORM_BYTES
from tests.fixtures.commands import city
from tests.fixtures.reading import Reader
from tests.fixtures.tables import Database

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def cities(database: Database) -> Database:
    database.apply([city(number, key=number, population=number % 7) for number in range(1, 1001)])
    return database


def keys(response: Response) -> list[int]:
    assert response.status in {200, 206}, response.body
    return [row["geonameid"] for row in json.loads(response.body)]


def problem(response: Response) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(response.body)
    assert document["status"] == response.status
    return document


def pages(reader: Reader, form: str, relation: str = "next", **page: str) -> Iterator[list[int]]:
    """Yield the keys of every page, by sending the same form to the target of each `Link`."""
    where: dict[str, str] | None = page
    while where is not None:
        response = reader.ask("cities", form, page=where)
        yield keys(response)
        link = response.headers.get("Link", "")
        targets = {rel: target for target, rel in re.findall(r'<([^>]*)>; rel="(\w+)"', link)}
        target = urlsplit(targets.get(relation, ""))
        assert target.path in {"", "/v1/query/cities"}
        where = dict(parse_qsl(target.query)) or None


def test_hundreds_of_keys_are_read_with_one_request(cities: Database, reader: Reader) -> None:
    assert cities.rows("SELECT count(*) FROM cities") == [(1000,)]
    wanted = [*range(1, 1001, 2), *range(1_000_000, 1_003_000)]
    form = urlencode({"geonameid": f"in.({','.join(map(str, wanted))})", "limit": "1000"})
    assert len(form) > 30_000
    response = reader.ask("cities", form, Prefer="count=exact")
    assert keys(response) == [*range(1, 1001, 2)]
    assert response.headers["Content-Range"] == "0-499/500"


def test_the_answer_to_a_form_is_not_cacheable(cities: Database, reader: Reader) -> None:
    assert cities.rows("SELECT count(*) FROM cities") == [(1000,)]
    response = reader.ask("cities", "limit=1", If_None_Match="*")
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert "ETag" not in response.headers
    assert response.content_type == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    "form",
    [
        "limit=300&select=geonameid",
        "limit=300&order=population.desc&select=geonameid",
        "limit=300&offset=100&order=population.desc,geonameid.desc&select=geonameid",
    ],
)
def test_pages_hold_every_row_once_in_both_directions(
    cities: Database, reader: Reader, form: str
) -> None:
    assert cities.rows("SELECT count(*) FROM cities") == [(1000,)]
    parameters = dict(parse_qsl(form))
    whole = keys(reader.ask("cities", urlencode({**parameters, "limit": "1000"})))
    there = list(pages(reader, form))
    assert [key for page in there for key in page] == whole
    assert max(map(len, there)) == 300
    last = urlencode({**parameters, "offset": "999"})
    back = list(pages(reader, last, "prev"))
    every = keys(reader.ask("cities", urlencode({**parameters, "limit": "1000", "offset": "0"})))
    assert [key for page in reversed(back) for key in page] == every


def test_with_values_too_long_for_a_cursor_the_link_has_an_offset(
    database: Database, reader: Reader
) -> None:
    database.apply([city(number, key=number) for number in range(1, 4)])
    database.connection.execute("ALTER TABLE cities ALTER name TYPE text")
    database.connection.execute("UPDATE cities SET name = repeat('x', 10000)")
    assert list(pages(reader, "order=name&limit=1&select=geonameid")) == [[1], [2], [3]]


def test_an_empty_form_is_the_whole_list(cities: Database, reader: Reader) -> None:
    assert cities.rows("SELECT count(*) FROM cities") == [(1000,)]
    assert keys(reader.ask("cities", None)) == [*range(1, 101)]
    assert keys(reader.ask("cities", "", Content_Type=f"{FORM}; charset=UTF-8")) == [*range(1, 101)]


def test_a_form_may_come_as_base64(cities: Database, reader: Reader) -> None:
    assert cities.rows("SELECT count(*) FROM cities") == [(1000,)]
    body = base64.b64encode(b"geonameid=eq.7").decode()
    assert keys(reader.ask("cities", body, base64=True)) == [7]


def test_csv_and_one_object_are_written_as_for_a_get(cities: Database, reader: Reader) -> None:
    assert cities.rows("SELECT count(*) FROM cities") == [(1000,)]
    form = "geonameid=eq.7&select=geonameid,population"
    assert reader.ask("cities", form, Accept="text/csv").body == "geonameid,population\r\n7,0\r\n"
    one = reader.ask("cities", form, Accept="application/vnd.pgrst.object+json")
    assert json.loads(one.body) == {"geonameid": 7, "population": 0}
    many = reader.ask("cities", "", Accept="application/vnd.pgrst.object+json")
    assert problem(many)["code"] == "PGRST116"


@pytest.mark.parametrize("coding", ["gzip", "DEFLATE", "identity"])
def test_a_query_that_api_gateway_has_inflated_keeps_its_coding(
    cities: Database, reader: Reader, coding: str
) -> None:
    assert cities.rows("SELECT count(*) FROM cities") == [(1000,)]
    answer = reader.ask("cities", "geonameid=eq.7&select=geonameid", Content_Encoding=coding)
    assert json.loads(answer.body) == [{"geonameid": 7}]


@pytest.mark.parametrize(
    ("form", "headers", "code", "words"),
    [
        ("a=1", {"Content-Type": "application/json"}, "unsupported_media_type", FORM),
        ("a=1", {"Content-Type": ""}, "unsupported_media_type", "no Content-Type"),
        ("a=1", {"Content-Encoding": "br"}, "unsupported_media_type", "gzip or deflate"),
        ("a=1", {"Content-Encoding": "gzip, gzip"}, "unsupported_media_type", "as it is"),
        ("\x1f\ufffd\b", {"Content-Encoding": "gzip"}, "unsupported_media_type", "as it is"),
        ("x\ufffdK", {"Content-Encoding": "deflate"}, "unsupported_media_type", "as it is"),
        ("x" * (MAX_FORM_BYTES + 1), {}, "payload_too_large", "262,144 is most"),
        ("%ff=1", {}, "malformed_form", "UTF-8"),
        ("&".join(f"a{n}=1" for n in range(1001)), {}, "malformed_form", "1000 parameters"),
        ("limit=1&limit=2", {}, "repeated_parameter", "'limit'"),
        ("nosuch=eq.1", {}, "unknown_parameter", "no column 'nosuch'"),
        ("alias.name=eq.1", {}, "PGRST108", "'alias' is not embedded"),
        ("name->a=eq.1", {}, "bad_filter", "only JSON"),
        ("nosuch->a=eq.1", {}, "bad_filter", "no column"),
        (f"name=eq.{'x' * 10_001}", {}, "PGRST100", "at most 10000 characters"),
        (f"name=fts.{'!' * 200_000}", {}, "PGRST100", "at most"),
        ("name=eq.%00", {}, "PGRST100", "NUL"),
        ("%00=eq.1", {}, "PGRST100", "NUL"),
        ("cursor=zzz", {}, "bad_cursor", "Link"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_invalid_queries_are_refused_by_name(
    reader: Reader, form: str, headers: dict[str, str], code: str, words: str
) -> None:
    document = problem(reader.ask("cities", form, page=None, base64=False, **headers))
    assert document["code"] == code, document
    assert words in f"{document['detail']} {document['hint']}"


@pytest.mark.parametrize("form", [None, ""])
def test_a_query_without_a_body_needs_no_content_type(
    cities: Database, reader: Reader, form: str | None
) -> None:
    assert cities.rows("SELECT count(*) FROM cities") == [(1000,)]
    response = reader.ask("cities", form, page={"offset": "4"}, Content_Type="")
    assert keys(response) == [*range(5, 105)]


def test_all_but_the_page_goes_into_the_body(reader: Reader) -> None:
    document = problem(reader.ask("cities", "limit=1", page={"name": "eq.x"}))
    assert document["code"] == "unknown_parameter"
    assert "into the body" in document["detail"]


def test_a_page_in_the_address_takes_the_place_of_that_in_the_body(
    cities: Database, reader: Reader
) -> None:
    assert cities.rows("SELECT count(*) FROM cities") == [(1000,)]
    response = reader.ask("cities", "limit=2&offset=10&cursor=x", page={"offset": "4"})
    assert keys(response) == [5, 6]
