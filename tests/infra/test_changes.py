"""Changes of a deployed environment, as CloudFormation carries them out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import boto3
import pytest
from botocore.stub import Stubber

import resources
from forebay.errors import SettingsError
from forebay.routes import routes
from infra.app import build_app
from infra.changes.__main__ import read_assembly, report
from infra.changes.advice import advise, describe
from infra.changes.deployed import list_names, read_deployed
from infra.changes.rules import CREATE_ONLY, HELD, KEEPING, NAMES, PLACES, SINGLE
from infra.changes.templates import Stack, get_property
from infra.changes.walk import Account
from tests.infra.transitions import REFUSALS, TRANSITIONS, Changes, Refusal, Transition
from tests.infra.variants import settings_of

App = Mapping[str, Stack]
Synthesis = Callable[[str, Changes], App]


@pytest.fixture(scope="session")
def synthesise(flags: Mapping[str, Any], package: Path) -> Synthesis:
    """Synthesise an environment with changed settings, each variant once a run."""
    apps: dict[tuple[str, str], App] = {}
    # Two routes: their number changes the service stack's size only.
    served = [
        route
        for route in routes(resources.load())
        if route.name in {"countries.list", "countries.post"}
    ]

    def synthesise(base: str, changes: Changes) -> App:
        key = (base, repr(sorted(changes.items())))
        if key not in apps:
            # CDK's own validation of the templates takes longer than their synthesis.
            app = cdk.App(context=dict(flags), builtin_cloud_formation_validation=False)
            settings = settings_of(base, changes)
            build_app(settings, app=app, served=served, packages=lambda _: package)
            apps[key] = read_assembly(app)
        return apps[key]

    return synthesise


@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda transition: transition.name)
def test_an_environment_can_be_changed_and_changed_back(
    synthesise: Synthesis, transition: Transition
) -> None:
    there = [synthesise(transition.base, changes) for changes in transition.steps]
    account = Account()
    assert account.deploy(there[0]) == []

    for app in (*there[1:], *reversed(there[:-1])):
        assert account.deploy(app, import_existing=True) == []
        for name in account.find_leftovers(app):
            assert account.delete(name) == []


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_a_change_that_can_t_be_made_names_the_way_around(
    synthesise: Synthesis, refusal: Refusal
) -> None:
    account = Account()
    assert account.deploy(synthesise(refusal.base, refusal.before)) == []

    obstacles = account.deploy(synthesise(refusal.base, refusal.after))

    ways = [advise(obstacle) for obstacle in obstacles if obstacle.rule == refusal.rule]
    assert any(refusal.way in way for way in ways), obstacles
    # Obstacles prevent every change.
    assert account.deploy(synthesise(refusal.base, refusal.before)) == []


def test_a_kept_stream_is_taken_back_by_its_name(synthesise: Synthesis) -> None:
    """A stream that the settings remove stays, so a deployment can't create it again."""
    many, one = synthesise("dev", {"stream.count": 3}), synthesise("dev", {"stream.count": 1})
    account = Account()
    assert [*account.deploy(many), *account.deploy(one)] == []

    obstacles = account.deploy(many)

    assert {obstacle.rule for obstacle in obstacles} == {"name"}
    assert {obstacle.type for obstacle in obstacles} == {"AWS::KinesisFirehose::DeliveryStream"}
    assert all("--import-existing-resources" in describe(obstacle) for obstacle in obstacles)
    assert account.deploy(many, import_existing=True) == []


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"stream.count": 3}, "AWS::KinesisFirehose::DeliveryStream"),
        ({"account": "123456789012"}, "AWS::S3::Bucket"),
    ],
)
def test_kept_resources_can_be_imported(
    synthesise: Synthesis, settings: Changes, kind: str
) -> None:
    """CloudFormation imports by a literal name, and only resources that it keeps.

    (AWS CloudFormation user guide, "Import AWS resources into a CloudFormation stack
    automatically".) The import template is the stack's own, so all references are resolved; with
    `cdk import` it would be the deployed template, which lacks the resource's dependencies.
    """
    template = synthesise("dev", settings)["forebay-dev-data"]
    (path,) = NAMES[kind]

    found = [resource for resource in template.resources.values() if resource["Type"] == kind]

    kept = [resource for resource in found if resource.get("DeletionPolicy") in KEEPING]
    assert len(kept) == len(found) - (kind == "AWS::KinesisFirehose::DeliveryStream")
    assert all(isinstance(get_property(resource, path), str) for resource in kept)
    defined = template.resources.keys()
    for resource in kept:
        assert set(resource.get("DependsOn", [])) <= defined


def test_an_edge_that_is_left_is_deleted_before_it_is_deployed_again(
    synthesise: Synthesis,
) -> None:
    """Its distribution would keep sending a secret that the API no longer has."""
    edge, none = synthesise("prod", {}), synthesise("prod", {"edge": None})
    account = Account()
    assert [*account.deploy(edge), *account.deploy(none)] == []

    (obstacle,) = account.deploy(edge)

    assert obstacle.rule == "stale"
    assert "delete the stack" in advise(obstacle)
    assert account.find_leftovers(none) == ["forebay-prod-edge"]
    assert account.delete("forebay-prod-edge") == []
    assert account.deploy(edge) == []


def test_clients_can_move_to_the_edge(synthesise: Synthesis) -> None:
    """The edge proves itself already, but the API accepts others too."""
    moving, enforced = synthesise("prod", {"edge.enforced": False}), synthesise("prod", {})

    def find(app: App, kind: str) -> list[Any]:
        return [
            resource
            for resource in app["forebay-prod-service"].resources.values()
            if resource["Type"] == kind
        ]

    (open_api,), (closed_api,) = (
        find(app, "AWS::ApiGateway::RestApi") for app in (moving, enforced)
    )
    assert "aws:Referer" not in json.dumps(get_property(open_api, "Policy"))
    assert "aws:Referer" in json.dumps(get_property(closed_api, "Policy"))
    assert find(moving, "AWS::SecretsManager::Secret") == find(
        enforced, "AWS::SecretsManager::Secret"
    )
    assert moving["forebay-prod-edge"].template == enforced["forebay-prod-edge"].template


def test_the_report_names_leftovers_and_obstacles(synthesise: Synthesis) -> None:
    aurora = synthesise("dev", {})
    moved = synthesise("dev", {"database.number": 2, "database.network.cidr": "10.99.0.0/20"})

    assert report(Account(), aurora) == (["nothing is deployed: every change is possible"], True)
    assert report(Account(dict(aurora)), aurora) == (["the settings can be deployed"], True)
    lines, possible = report(Account(dict(aurora)), moved)
    assert possible
    assert [line.partition(" ")[0] for line in lines] == ["forebay-dev-database"]
    cidr = synthesise("dev", {"database.network.cidr": "10.99.0.0/20"})
    lines, possible = report(Account(dict(aurora)), cidr)
    assert not possible
    assert any("database.number" in line for line in lines)


def test_another_database_has_names_of_its_own(synthesise: Synthesis) -> None:
    """The one that it replaces exists until its stack is deleted."""
    app = synthesise("dev", {"database.number": 2, "database.network.cidr": "10.99.0.0/20"})
    database = app["forebay-dev-database-2"]
    (cluster,) = (
        resource
        for resource in database.resources.values()
        if resource["Type"] == "AWS::RDS::DBCluster"
    )
    service = json.dumps(app["forebay-dev-service"].template)

    assert "forebay-dev-database" not in app
    assert get_property(cluster, "DBClusterIdentifier") == "forebay-dev-db2"
    assert app["forebay-dev-service"].outputs["DatabaseStackName"] == "forebay-dev-database-2"
    # Operators may read this stack's outputs, and the alarms watch this cluster.
    assert "stack/forebay-dev-database-2/*" in service
    assert "stack/forebay-dev-database/*" not in service
    assert '"forebay-dev-db2"' in json.dumps(app["forebay-dev-operations"].template)


def test_templates_are_read_as_they_were_deployed(synthesise: Synthesis) -> None:
    deployed = synthesise("dev", {})
    client = boto3.client(
        "cloudformation", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    names = list_names("forebay-dev", range(1, 10))
    with Stubber(client) as stub:
        for name in names:
            parameters = {"StackName": name, "TemplateStage": "Original"}
            if name in deployed:
                body = {"TemplateBody": json.dumps(deployed[name].template)}
                stub.add_response("get_template", body, parameters)
            else:
                stub.add_client_error("get_template", "ValidationError", "does not exist")
        stacks = read_deployed(dict.fromkeys(names, "us-east-1"), lambda _: client)

    assert {name: stack.template for name, stack in stacks.items()} == {
        name: stack.template for name, stack in deployed.items()
    }
    assert stacks["forebay-dev-service"].dependencies == {
        "forebay-dev-data",
        "forebay-dev-database",
    }


def test_missing_credentials_are_named_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.Session().client("cloudformation", "us-east-1")

    with pytest.raises(SettingsError, match=r"no credentials of an account.*set AWS_PROFILE"):
        read_deployed({"forebay-dev-data": "us-east-1"}, lambda _: client)


def test_a_profile_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nope")

    def connect(region: str) -> Any:
        return boto3.Session().client("cloudformation", region)

    with pytest.raises(SettingsError, match=r"no credentials.*nope.*set AWS_PROFILE"):
        read_deployed({"forebay-dev-data": "us-east-1"}, connect)


@pytest.mark.parametrize("base", ["dev", "prod"])
def test_every_resource_has_its_rules(synthesise: Synthesis, base: str) -> None:
    types = {
        resource["Type"]
        for stack in synthesise(base, {}).values()
        for resource in stack.resources.values()
    }

    assert types <= CREATE_ONLY.keys()
    assert HELD.keys() | NAMES.keys() | PLACES | SINGLE.keys() <= CREATE_ONLY.keys()
