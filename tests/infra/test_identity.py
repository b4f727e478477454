"""The user pool's clients: the scopes that people and programs can get."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template
from pydantic import ValidationError

from forebay.errors import SettingsError
from infra.app import build_app
from tests.infra.variants import properties, settings_of, two_resources

PEOPLE: Mapping[str, Any] = {
    "kind": "cognito",
    "domain_prefix": "forebay-example",
    "callback_urls": ["https://example.com/back"],
}


def scopes_of_people(
    changes: Mapping[str, Any], flags: Mapping[str, Any], package: Path
) -> set[str]:
    """The scopes that a person's token can hold, without the resource server's name."""
    app = cdk.App(context=dict(flags))
    settings = settings_of("dev", {"api.authorization": {**PEOPLE, **changes}})
    build_app(settings, app=app, served=two_resources(), packages=lambda _: package)
    stack = app.node.find_child("forebay-dev-identity")
    assert isinstance(stack, cdk.Stack)
    (client,) = properties(Template.from_stack(stack), "AWS::Cognito::UserPoolClient")
    granted = [scope for scope in client["AllowedOAuthScopes"] if scope != "openid"]
    return {json.dumps(scope).rpartition("/")[2].strip('"]}') for scope in granted}


def test_users_get_a_scope_for_writing_only_if_the_settings_allow_it(
    flags: Mapping[str, Any], package: Path
) -> None:
    """Otherwise a stolen token of a person would permit writes."""
    assert scopes_of_people({}, flags, package) == {
        *("status.read", "cities.read", "countries.read"),
    }


@pytest.mark.parametrize("chosen", [[], ["cities.read"], ["cities.read", "countries.write"]])
def test_people_can_get_exactly_the_scopes_of_the_settings(
    flags: Mapping[str, Any], package: Path, chosen: list[str]
) -> None:
    assert scopes_of_people({"people_scopes": chosen}, flags, package) == set(chosen)


def test_a_scope_for_users_that_no_route_requires_is_refused(
    flags: Mapping[str, Any], package: Path
) -> None:
    message = r"dev\.toml: api\.authorization\.people_scopes contains unknown scopes: rivers\.read;"
    with pytest.raises(SettingsError, match=message):
        scopes_of_people({"people_scopes": ["rivers.read"]}, flags, package)


def test_scopes_for_users_that_can_not_sign_in_are_refused() -> None:
    authorization = {"kind": "cognito", "people_scopes": ["cities.read"]}
    with pytest.raises(ValidationError, match="people_scopes requires callback_urls"):
        settings_of("dev", {"api.authorization": authorization})
