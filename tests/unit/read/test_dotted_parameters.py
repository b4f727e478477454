"""Without dotted parameters, the read function sees none of them, and so can't use one (law 5)."""

from __future__ import annotations

import resources
from forebay.openapi import describe
from forebay.routes import drop_dotted, routes
from tests.fixtures.api import event

_SENT = {"country.name": "eq.Chad", "not.and": "(population.gt.5)", "and": "(population.lt.9)"}


def test_only_query_parameters_with_a_dot_are_dropped() -> None:
    for before, after in zip(
        routes(resources.load()), drop_dotted(routes(resources.load())), strict=True
    ):
        lost = set(before.parameters) - set(after.parameters)
        assert all(one.location == "query" and "." in one.name for one in lost), after.name
        assert not any("." in one.name for one in after.parameters if one.location == "query")
        assert bool(lost) is (before.action == "list"), after.name


def test_the_function_sees_no_dotted_parameter_that_the_api_does_not_declare() -> None:
    """Otherwise it would answer by a part of the request that no cache key contains."""
    for dotted, seen in ((True, set(_SENT)), (False, {"and"})):
        (cities,) = (
            route
            for route in routes(resources.load(), dotted_parameters=dotted)
            if route.name == "cities.list"
        )
        view = cities.view(event("GET", "/cities", query=_SENT))
        assert set(view.query) == seen


def test_the_description_lists_what_the_api_declares() -> None:
    names = [
        {
            one["name"]
            for one in describe(resources.load(), dotted_parameters=dotted)["paths"]["/cities"][
                "get"
            ]["parameters"]
        }
        for dotted in (True, False)
    ]

    assert names[0] - names[1] == {name for name in names[0] if "." in name}
    assert "country.name" in names[0]
