"""The API's description is valid OpenAPI 3.1 and matches the declarations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

import resources
from devtools.openapi import check, render_file, write
from forebay.openapi import describe
from forebay.problem import CATALOGUE
from forebay.resource.relations import find_relations
from forebay.routes import Route, routes

RESOURCES = resources.load()
DOCUMENT = describe(RESOURCES)
#: All routes except the documentation page's files, which the document leaves out.
ROUTES = [route for route in routes(RESOURCES) if route.action != "asset"]


def operation(route: Route, document: dict[str, Any] = DOCUMENT) -> dict[str, Any]:
    description: dict[str, Any] = document["paths"][route.path][route.method.lower()]
    return description


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from ([part["$ref"]] if "$ref" in part else [])
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


@pytest.mark.parametrize("access", ["free", "with a key"])
def test_the_document_is_openapi_3_1(access: str) -> None:
    document = describe(RESOURCES, require_api_key=access == "with a key")
    validate(json.loads(orjson.dumps(document)), cls=OpenAPIV31SpecValidator)


@pytest.mark.parametrize("document", ["current", "old", "missing"])
def test_make_check_finds_a_description_that_is_not_up_to_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: str
) -> None:
    (tmp_path / "docs").mkdir()
    if document != "missing":
        content = render_file() if document == "current" else b"{}"
        (tmp_path / "docs" / "openapi.json").write_bytes(content)
    is_current = document == "current"
    assert check(tmp_path) == (0 if is_current else 1)
    assert ("run make openapi" in capsys.readouterr().err) is not is_current


def test_make_openapi_names_the_file_that_it_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    assert write(tmp_path) == 0
    assert (tmp_path / "docs/openapi.json").read_bytes() == render_file()
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "wrote docs/openapi.json\n")


def test_the_same_declarations_make_the_same_bytes() -> None:
    assert orjson.dumps(describe(RESOURCES)) == orjson.dumps(DOCUMENT)


def test_there_is_an_operation_for_every_route_and_none_else() -> None:
    described = {
        (method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item
    }
    assert described == {(route.method, route.path) for route in ROUTES}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_declared_parameter_is_described_once(route: Route) -> None:
    names = [
        (parameter["in"], parameter["name"]) for parameter in operation(route).get("parameters", [])
    ]
    assert len(names) == len(set(names))
    # OpenAPI describes the media types of answers instead of `Accept` (3.1.1, §4.8.12.1).
    declared = {(parameter.location, parameter.name) for parameter in route.parameters} - {
        ("header", "Accept")
    }
    if route.action == "patch_many":  # generators have an argument of that name for the body
        declared -= {("query", "body")}
    if route.function == "write":  # write routes declare no headers, as nothing of theirs is cached
        names = [pair for pair in names if pair[0] != "header"]
    assert set(names) == declared


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    used = set(references(DOCUMENT))
    there = {
        f"#/components/{kind}/{name}"
        for kind, items in DOCUMENT["components"].items()
        for name in items
    }
    assert used <= there
    kept_for_other_resources = {name for name in there if name.endswith(("Filter", "Condition"))}
    assert there - used <= kept_for_other_resources


def test_every_problem_can_be_met_somewhere_and_has_its_status() -> None:
    """Except for problems of authorizers and of undeclared methods, which are not described."""
    document = describe(RESOURCES, require_api_key=True)
    names = {
        (code, status)
        for route in ROUTES
        for status, answer in operation(route, document)["responses"].items()
        for code in CATALOGUE
        if f"`{code}`" in answer["description"]
    }
    assert {(code, str(status)) for code, (status, _) in CATALOGUE.items()} - names == {
        ("unauthorized", "401"),
        ("method_not_allowed", "405"),
    }
    assert all(str(CATALOGUE[code][0]) == status for code, status in names)


@pytest.mark.parametrize("path", RESOURCES)
def test_the_example_of_an_item_is_accepted(path: str) -> None:
    spec = RESOURCES[path]
    post = DOCUMENT["paths"][f"/{path}"]["post"]["requestBody"]["content"]
    one = post["application/json"]["examples"]["one"]["value"]
    read = spec.body.validate(orjson.dumps(one))
    assert (read.key is None) is spec.key_is_made
    put = DOCUMENT["paths"][f"/{path}/{{key}}"]["put"]["requestBody"]["content"]
    spec.body.validate(orjson.dumps(put["application/json"]["example"]))
    for route in (f"/{path}", f"/{path}/{{key}}"):
        patch = DOCUMENT["paths"][route]["patch"]["requestBody"]["content"]
        for media in ("application/json", "application/merge-patch+json"):
            assert spec.body.validate_patch(orjson.dumps(patch[media]["example"])).body


def test_answers_have_no_closed_enumerations_except_discriminators() -> None:
    """A strict client must accept values of a later release or of an earlier declaration."""
    schemas = DOCUMENT["components"]["schemas"]
    requests = (
        {f"New{spec.name}" for spec in RESOURCES.values()}
        | {f"{spec.name}Content" for spec in RESOURCES.values()}
        | {f"{spec.name}Patch" for spec in RESOURCES.values()}
        | {"Operation"}
    )
    closed = {
        (name, path)
        for name, schema in schemas.items()
        if name not in requests
        for path in enumerations(schema)
    }
    assert closed == {
        ("AcceptedItem", ("properties", "outcome")),
        ("RefusedItem", ("properties", "outcome")),
    }
    status = schemas["Announcement"]["properties"]["status"]
    assert status["type"] == "string"
    assert all(f"`{value}`" in status["description"] for value in status["examples"])


def enumerations(part: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(part, dict):
        if part.keys() & {"enum", "const"}:
            yield path
        for name, inner in part.items():
            yield from enumerations(inner, (*path, name))


@pytest.mark.parametrize("path", RESOURCES)
def test_the_examples_of_parameters_are_understood(path: str) -> None:
    from forebay.query.parse import parse_list  # noqa: PLC0415

    known = find_relations(RESOURCES)[path]
    for parameter in DOCUMENT["paths"][f"/{path}"]["get"]["parameters"]:
        name = parameter["name"]
        if parameter["in"] != "query":
            continue
        relation = name.partition(".")[0]
        for example in parameter["schema"].get("examples", []):
            query = {name: example}
            if any(relation in candidate.names for candidate in known):
                query["select"] = f"*,{relation}(*)"
            parse_list(RESOURCES[path], known, query)


def test_with_api_keys_only_routes_about_the_api_need_no_key() -> None:
    document = describe(RESOURCES, require_api_key=True)
    assert document["security"] == [{"apiKey": []}]
    public = {route.name for route in ROUTES if "security" in operation(route, document)}
    assert public == {"about.index", "about.openapi", "about.docs"}
    assert "403" in operation(ROUTES[-1], document)["responses"]
    assert "security" not in DOCUMENT


def test_a_write_leads_to_its_status_and_its_item() -> None:
    accepted = DOCUMENT["paths"]["/cities"]["post"]["responses"]["202"]
    named = {operation(route)["operationId"] for route in ROUTES}
    assert len(named) == len(ROUTES)
    assert all(name.isidentifier() for name in named)
    linked = {link["operationId"] for link in accepted["links"].values()}
    assert linked == {"cities_status", "cities_item"}
    assert linked <= named
