"""An environment grows to 200 resources: what the templates contain, and what is too much."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest

from forebay.routes import routes
from infra.app import build_app
from infra.settings import Settings
from tests.fixtures.many import declare
from tests.infra.definitions import read_methods
from tests.infra.variants import api_template, settings_of

#: AWS CloudFormation user guide, "Understand CloudFormation quotas".
MAX_RESOURCES = 500
MAX_TEMPLATE_BYTES = 1_000_000
#: Amazon API Gateway API reference, `PutRestApi`: 6 MB.
MAX_DEFINITION_BYTES = 6_000_000
COUNTS = (10, 60, 200)


def synthesise(
    settings: Settings, count: int, flags: Mapping[str, Any], package: Path, folder: Path
) -> Mapping[str, Any]:
    """The templates of an environment with so many resources, by stack."""
    app = cdk.App(context=dict(flags), outdir=str(folder))
    build_app(
        settings, app=app, served=routes(declare(count)), packages=lambda _: package
    )
    return {stack.stack_name: stack.template for stack in app.synth().stacks}


def definition_of(template: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The definition that the template contains, or the file that it names."""
    (api,) = (
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::ApiGateway::RestApi"
    )
    if "Body" in api:
        definition: Mapping[str, Any] = api["Body"]
        return definition
    file = folder / f"asset.{api['BodyS3Location']['Key']}"
    assert file.stat().st_size <= MAX_DEFINITION_BYTES
    definition = json.loads(file.read_bytes())
    return definition


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["dev", "prod"])
def test_an_environment_of_so_many_resources_fits_the_quotas_of_cloudformation(
    name: str, count: int, flags: Mapping[str, Any], package: Path, tmp_path: Path
) -> None:
    templates = synthesise(Settings.load(name, {}), count, flags, package, tmp_path)

    for stack, template in templates.items():
        assert len(template["Resources"]) <= MAX_RESOURCES, stack
        size = (tmp_path / f"{stack}.template.json").stat().st_size
        assert size <= MAX_TEMPLATE_BYTES, stack
    service = templates[f"forebay-{name}-service"]
    served = routes(declare(count))
    methods = read_methods(definition_of(service, tmp_path))
    assert {key for key in methods if key[0] not in {"ANY", "OPTIONS"}} == {
        (route.method, route.path) for route in served
    }
    cached = {(route.method, route.path) for route in served if route.cached}
    assert {
        key for key, method in methods.items() if "CacheKeyParameters" in method["Integration"]
    } == cached


def test_a_resource_adds_nothing_to_the_template_but_settings_of_its_cached_routes(
    flags: Mapping[str, Any],
) -> None:
    """Neither permissions nor methods: a stack may have 500 resources, and a policy 20 KB."""
    ten, sixty = (
        Counter(
            resource["Type"]
            for resource in api_template({}, flags, served=routes(declare(count))).to_json()[
                "Resources"
            ].values()
        )
        for count in (10, 60)
    )

    assert ten == sixty
    assert ten["AWS::Lambda::Permission"] == 1
