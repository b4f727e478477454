"""The app as a whole: the same app for all environments, and its refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forebay.errors import SettingsError
from forebay.routes import Route
from infra.app import build_app
from infra.settings import Settings
from tests.infra.templates import ROOT, Synthesised
from tests.infra.variants import ACCOUNT, JUDGE_ARN, settings_of, two_resources


def _types(template: Mapping[str, Any]) -> Counter[str]:
    return Counter(resource["Type"] for resource in template["Resources"].values())


def _dev_with_ttls(ttl_seconds_by_route: Mapping[str, int]) -> Settings:
    settings = Settings.load("dev", {})
    cache = settings.api.cache.model_copy(update={"ttl_seconds_by_route": ttl_seconds_by_route})
    api = settings.api.model_copy(update={"cache": cache})
    return settings.model_copy(update={"api": api})


@pytest.mark.parametrize("stack", ["data", "service"])
def test_the_local_stacks_are_those_of_aws(
    local: Synthesised, recording: Synthesised, stack: str
) -> None:
    """A difference could cause a failure on AWS only.

    There, more roles need policies, and operators have policies.
    """
    here, there = _types(getattr(local, stack)), _types(getattr(recording, stack))

    assert here - there == Counter()
    assert set(there - here) <= {"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"}


def test_the_same_sources_make_the_same_templates(
    dev: Synthesised, flags: Mapping[str, Any], package: Path
) -> None:
    again = Synthesised.of(dev.settings, flags, package)

    assert again.data == dev.data
    assert again.service == dev.service


def test_a_cache_time_for_a_route_that_is_not_there_is_refused(
    flags: Mapping[str, Any], package: Path
) -> None:
    settings = _dev_with_ttls({"cities.list": 60, "cities.status": 5, "towns.list": 60})

    with pytest.raises(SettingsError, match=r"dev\.toml: .* contains cities\.status, towns\.list"):
        Synthesised.of(settings, flags, package)


def test_one_route_can_be_kept_longer_or_not_at_all(
    flags: Mapping[str, Any], package: Path
) -> None:
    settings = _dev_with_ttls({"countries.list": 3600, "cities.item": 0})

    stage = Synthesised.of(settings, flags, package).only("service", "AWS::ApiGateway::Stage")

    cache_settings = {
        setting["ResourcePath"]: (setting["CachingEnabled"], setting["CacheTtlInSeconds"])
        for setting in stage["MethodSettings"]
        if setting["HttpMethod"] == "GET"
    }
    assert cache_settings["/~1countries"] == (True, 3600)
    assert "/~1cities~1{key}" not in cache_settings
    assert cache_settings["/~1cities"] == (True, settings.api.cache.ttl_seconds)


SHARED = {"kind": "lambda", "function_arn": JUDGE_ARN, "shares_cache": True}


def _served(*, names_others: bool) -> list[Route]:
    """The routes for resources with or without relations to others."""
    return [replace(route, names_others=names_others and route.cached) for route in two_resources()]


def test_a_cache_is_not_shared_where_answers_depend_on_the_callers_scopes() -> None:
    settings = settings_of("dev", {"api.authorization": SHARED})

    with pytest.raises(SettingsError, match=r"dev\.toml: .*shares_cache must be false.*\.list"):
        build_app(settings, served=_served(names_others=True))


@pytest.mark.parametrize("names_others", [False, True])
def test_a_cache_is_shared_by_lists_that_lead_nowhere_or_are_not_cached(
    package: Path, *, names_others: bool
) -> None:
    served = _served(names_others=names_others)
    changes: dict[str, Any] = {"api.authorization": SHARED}
    if names_others:
        seconds = {route.name: 0 for route in served if route.names_others}
        changes["api.cache.ttl_seconds_by_route"] = seconds

    build_app(settings_of("dev", changes), served=served, packages=lambda _: package)


@pytest.mark.parametrize(
    ("authorization", "said"),
    [
        (
            {"kind": "cognito", "domain_prefix": "d", "machine_clients": {"a": ["x.read"]}},
            "machine_clients.a contains unknown scopes: x.read",
        ),
        (
            {"kind": "iam", "principals": {f"arn:aws:iam::{ACCOUNT}:role/r": ["x.read"]}},
            "principals.arn:aws:iam::.*:role/r contains unknown scopes: x.read",
        ),
    ],
)
def test_a_scope_that_no_route_requires_is_refused(
    authorization: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        build_app(settings_of("dev", {"api.authorization": authorization}))


def test_a_refusal_is_a_sentence_and_no_traceback() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "infra.app"],
        cwd=ROOT,
        env={**os.environ, "CDK_CONTEXT_JSON": '{"env": "moon"}'},
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 1
    assert process.stderr == (
        "forebay: the environment 'moon' does not exist; choose one of: dev, local, prod, staging\n"
    )
