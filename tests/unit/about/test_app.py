"""Routes of the API's own documentation: description, page, root."""

from __future__ import annotations

import json
from typing import cast
from urllib.parse import quote

import pytest

import resources
from forebay.log import Log
from forebay.openapi import describe
from lambdas.about.app import AboutApp
from lambdas.about.health import Health
from lambdas.about.pages import Pages
from local.settings import ROOT
from tests.fixtures import hostile
from tests.fixtures.api import document, event

PAGES = Pages(ROOT / "node_modules" / "swagger-ui-dist")


def app(*, require_api_key: bool = False) -> AboutApp:
    return AboutApp(
        resources=resources.load(),
        pages=PAGES,
        health=cast("Health", None),
        require_api_key=require_api_key,
        log=Log("test"),
    )


def test_the_description_is_served_with_its_tag_and_only_once() -> None:
    about = app()
    first = about.handle(event("GET", "/openapi.json"))
    assert (first.status, document(first)) == (
        200,
        json.loads(json.dumps(describe(resources.load()))),
    )
    tag = first.headers["ETag"]
    for known in (tag, f'"x", {tag}', f"W/{tag}", "*"):
        again = about.handle(event("GET", "/openapi.json", headers={"If-None-Match": known}))
        assert (again.status, again.body, again.headers["ETag"]) == (304, "", tag)
    other = about.handle(event("GET", "/openapi.json", headers={"If-None-Match": '"x"'}))
    assert other.status == 200


def test_the_description_states_whether_a_key_is_needed() -> None:
    body = document(app(require_api_key=True).handle(event("GET", "/openapi.json")))
    assert body["security"] == [{"apiKey": []}]


def test_the_root_leads_everywhere() -> None:
    links = document(app().handle(event("GET", "/")))["links"]
    assert {"/v1/docs", "/v1/openapi.json", "/v1/status", "/v1/cities"} <= set(links.values())


def test_a_file_that_is_not_there_is_a_problem() -> None:
    response = app().handle(
        event("GET", "/docs/{version}/{file}", path={"version": "v", "file": "\ud800%2F"})
    )
    assert (response.status, document(response)["code"]) == (404, "unknown_resource")
    assert response.headers["Cache-Control"] == "no-store"


def test_a_file_of_the_page_is_found_by_its_address() -> None:
    path = {"version": PAGES.version, "file": "init.js"}
    response = app().handle(event("GET", "/docs/{version}/{file}", path=path))
    assert (response.status, "SwaggerUIBundle" in response.body) == (200, True)


def test_a_method_that_a_path_does_not_have_is_405_with_those_it_has() -> None:
    response = app().handle(event("POST", "/cities/{key}", path={"key": "5"}))
    assert (response.status, document(response)["code"]) == (405, "method_not_allowed")
    assert response.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"
    assert app().handle(event("POST", "/status")).headers["Allow"] == "GET, OPTIONS"


def test_head_is_get_without_its_body() -> None:
    get, head = (app().handle(event(method, "/openapi.json")) for method in ("GET", "HEAD"))
    assert (head.status, head.body, head.headers["ETag"]) == (200, "", get.headers["ETag"])


@pytest.mark.parametrize("place", ["version", "file"])
def test_no_file_but_the_page_s_own_is_served_by_any_name(place: str) -> None:
    about = app()
    good = {"version": PAGES.version, "file": "init.js"}
    assert about.handle(event("GET", "/docs/{version}/{file}", path=good)).status == 200
    for text in (*hostile.TEXTS, "../app.py", "..%2f..%2fapp.py", "index.html", "handler.py"):
        for sent in (text, quote(text, safe="")):
            answer = about.handle(
                event("GET", "/docs/{version}/{file}", path={**good, place: sent})
            )
            assert (answer.status, document(answer)["code"]) == (404, "unknown_resource")
            assert not hostile.leaks(answer.body, [text, sent])
