"""An environment grows to 200 resources: what the templates contain, and what is too much."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Annotations, Match

from forebay.errors import SettingsError
from forebay.routes import routes
from infra.app import build_app
from infra.quotas import check_definition, check_template
from infra.settings import Settings
from tests.fixtures.many import declare
from tests.infra.definitions import read_authorizers, read_methods
from tests.infra.variants import ACCOUNT, api_template, settings_of

#: AWS CloudFormation user guide, "Understand CloudFormation quotas".
MAX_RESOURCES = 500
MAX_TEMPLATE_BYTES = 1_000_000
#: Amazon API Gateway API reference, `PutRestApi`: 6 MB.
MAX_DEFINITION_BYTES = 6_000_000
COUNTS = (10, 60, 200)


POOL_ARN = f"arn:aws:cognito-idp:us-east-1:{ACCOUNT}:userpool/us-east-1_Example"
COGNITO = {
    "kind": "cognito",
    "domain_prefix": "forebay-example",
    "callback_urls": ["https://example.com/back"],
    "machine_clients": {"loader": ["group-1.write"]},
}


def synthesise(
    settings: Settings, count: int, flags: Mapping[str, Any], package: Path, folder: Path
) -> Mapping[str, Any]:
    """The templates of an environment with so many resources, by stack."""
    app = cdk.App(context=dict(flags), outdir=str(folder))
    build_app(
        settings, app=app, served=routes(declare(count, group_size=10)), packages=lambda _: package
    )
    return {stack.stack_name: stack.template for stack in app.synth().stacks}


def definition_of(template: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The definition that the template contains, or the file that it names."""
    (api,) = (
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::ApiGateway::RestApi"
    )
    definition: Mapping[str, Any]
    if "Body" in api:
        definition = api["Body"]
    else:
        file = folder / f"asset.{api['BodyS3Location']['Key']}"
        assert file.stat().st_size <= MAX_DEFINITION_BYTES
        definition = json.loads(file.read_bytes())
    return definition


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["dev", "prod"])
def test_an_environment_of_so_many_resources_fits_the_quotas_of_cloudformation(
    name: str, count: int, flags: Mapping[str, Any], package: Path, tmp_path: Path
) -> None:
    pool = {"api.authorization.created_pool_arn": POOL_ARN} if name == "prod" else {}
    templates = synthesise(settings_of(name, pool), count, flags, package, tmp_path)

    for stack, template in templates.items():
        assert len(template["Resources"]) <= MAX_RESOURCES, stack
        size = (tmp_path / f"{stack}.template.json").stat().st_size
        assert size <= MAX_TEMPLATE_BYTES, stack
    service = templates[f"forebay-{name}-service"]
    served = routes(declare(count, group_size=10))
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
            for resource in api_template({}, flags, served=routes(declare(count)))
            .to_json()["Resources"]
            .values()
        )
        for count in (10, 60)
    )

    assert ten == sixty
    assert ten["AWS::Lambda::Permission"] == 1


def test_200_resources_share_the_scopes_of_their_groups(
    flags: Mapping[str, Any], package: Path, tmp_path: Path
) -> None:
    """Amazon Cognito: 100 scopes a resource server, 50 a client."""
    settings = settings_of("dev", {"api.authorization": {**COGNITO, "created_pool_arn": POOL_ARN}})
    served = routes(declare(200, group_size=10))
    app = cdk.App(context=dict(flags), outdir=str(tmp_path))
    build_app(settings, app=app, served=served, packages=lambda _: package)
    templates = {stack.stack_name: stack.template for stack in app.synth().stacks}
    identity = templates["forebay-dev-identity"]["Resources"].values()
    by_type = {
        kind: [one["Properties"] for one in identity if one["Type"] == f"AWS::Cognito::{kind}"]
        for kind in ("UserPoolResourceServer", "UserPoolClient")
    }

    (server,) = by_type["UserPoolResourceServer"]
    assert len(server["Scopes"]) == 2 * 20 + 2
    assert all(len(client["AllowedOAuthScopes"]) <= 50 for client in by_type["UserPoolClient"])
    definition = definition_of(templates["forebay-dev-service"], tmp_path)
    methods = read_methods(definition)
    for number in (1, 100, 200):
        group = f"forebay/group-{(number - 1) // 10 + 1}"
        scopes = {
            method: methods[method, f"/things-{number}"]["AuthorizationScopes"]
            for method in ("GET", "POST")
        }
        assert scopes == {"GET": [f"{group}.read"], "POST": [f"{group}.write"]}
    assert read_authorizers(definition)[0]["providerARNs"] == [POOL_ARN]


@pytest.mark.parametrize(
    ("count", "changes", "said"),
    [
        (60, {}, r"has 122 scopes, .* at most 100, .* scope_group"),
        (49, {"callback_urls": COGNITO["callback_urls"], "people_scopes": [
            f"things-{number}.{access}" for number in range(1, 27) for access in ("read", "write")
        ]}, r"client people .* has 52 scopes, .* at most 50"),
        (49, {"machine_clients": {"all": [f"things-{number}.{access}" for number in range(1, 27)
            for access in ("read", "write")]}}, r"client all .* has 52 scopes, .* at most 50"),
    ],
)  # fmt: skip
def test_too_many_scopes_are_refused_with_the_way_to_share_them(
    count: int, changes: Mapping[str, Any], said: str, package: Path
) -> None:
    authorization = {"kind": "cognito", "domain_prefix": "forebay-example", **changes}
    with pytest.raises(SettingsError, match=said):
        build_app(
            settings_of("dev", {"api.authorization": authorization}),
            served=routes(declare(count)),
            packages=lambda _: package,
        )


@pytest.mark.parametrize(
    ("count", "quota", "warned"), [(10, 300, False), (60, 300, True), (60, 400, False)]
)
def test_more_paths_than_the_quota_are_a_warning_that_names_the_setting(
    count: int, quota: int, *, warned: bool, package: Path
) -> None:
    app = build_app(
        settings_of("dev", {"api.resources_quota": quota}),
        served=routes(declare(count)),
        packages=lambda _: package,
    )
    stack = app.node.find_child("forebay-dev-service")
    assert isinstance(stack, cdk.Stack)
    annotations = Annotations.from_stack(stack)

    if warned:
        said = rf"needs 308 resources .*`Resources per API` is {quota}.*api\.resources_quota"
        annotations.has_warning("*", Match.string_like_regexp(said))
    else:
        annotations.has_no_warning("*", Match.string_like_regexp("Resources per API"))


def test_a_definition_that_is_a_file_needs_the_literal_name_of_the_pool(package: Path) -> None:
    """A file of S3 can't refer to another stack, which then can be deployed alone."""
    settings = settings_of("dev", {"api.authorization": COGNITO})
    app = build_app(settings, served=routes(declare(60, group_size=10)), packages=lambda _: package)
    service, identity = (
        app.node.find_child(f"forebay-dev-{name}") for name in ("service", "identity")
    )
    assert isinstance(service, cdk.Stack)
    assert isinstance(identity, cdk.Stack)

    Annotations.from_stack(service).has_error("*", Match.string_like_regexp("created_pool_arn"))
    Annotations.from_stack(identity).has_no_error("*", Match.any_value())


def test_sizes_above_the_quotas_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"definition has 6000001 bytes, .* at most 6000000"):
        check_definition(6_000_001)
    with pytest.raises(SettingsError, match=r"template of a has 1000001 bytes"):
        check_template("a", 1_000_001)
    check_definition(6_000_000)
    check_template("a", 1_000_000)


def test_another_route_or_number_makes_another_deployment(flags: Mapping[str, Any]) -> None:
    """A stage serves the deployment that it names, whatever the API has become."""

    def name_deployment(count: int, changes: Mapping[str, Any]) -> str:
        template = api_template(changes, flags, served=routes(declare(count))).to_json()
        name: str
        (name,) = (
            name
            for name, resource in template["Resources"].items()
            if resource["Type"] == "AWS::ApiGateway::Deployment"
        )
        return name

    names = [
        name_deployment(count, changes)
        for count, changes in (
            (2, {}),
            (2, {}),
            (3, {}),
            (2, {"api.definition_number": 2}),
            (60, {}),
            (61, {}),
        )
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 5
