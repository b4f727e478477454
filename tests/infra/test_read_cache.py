"""The read cache on AWS: its access, how it is protected, and where it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import aws_cdk as cdk
import pytest
from pydantic import ValidationError

from forebay.read_cache.address import Address
from infra.app import build_app
from infra.settings import ENVIRONMENTS, FunctionName, Settings
from ops.context import _OUTPUTS, READ_CACHE
from tests.infra.templates import LOCAL_CONTEXT, Synthesised, readable
from tests.infra.variants import STANDBY, settings_of

NODES = {"read_cache.node_type": "t4g.small", "read_cache.replicas": 1}
USERS = {"read", "status", "firehose_consumer", "migrate"}
FUNCTIONS: tuple[FunctionName, ...] = get_args(FunctionName)
EXTERNAL = {
    "kind": "external",
    "url": "postgresql://a@h/d",
    "replica_url": "postgresql://a@h/d",
    "read_timeout_seconds": 10,
}


@pytest.fixture(scope="module")
def cached(flags: Mapping[str, Any], package: Path) -> Synthesised:
    return Synthesised.of(settings_of("prod", NODES), flags, package)


def test_it_is_encrypted_and_fails_over_to_another_zone(cached: Synthesised) -> None:
    nodes = cached.only("service", "AWS::ElastiCache::ReplicationGroup")
    assert nodes["Engine"] == "valkey"
    assert nodes["TransitEncryptionEnabled"] is True
    assert nodes["TransitEncryptionMode"] == "required"
    assert nodes["AtRestEncryptionEnabled"] is True
    assert (nodes["NumCacheClusters"], nodes["MultiAZEnabled"]) == (2, True)
    assert nodes["AutomaticFailoverEnabled"] is True
    assert len(nodes["UserGroupIds"]) == 1
    (user,) = cached.properties("service", "AWS::ElastiCache::User")
    assert user["AuthenticationMode"] == {"Type": "iam"}
    assert user["UserId"] == user["UserName"]
    assert "-@all" in user["AccessString"]


def test_operators_get_its_address(cached: Synthesised) -> None:
    assert _OUTPUTS[READ_CACHE] in cached.service["Outputs"]


def test_only_its_users_get_its_address_and_may_log_in(cached: Synthesised) -> None:
    account, region = "<AWS::AccountId>", "us-east-1"
    arns = {
        f"arn:aws:elasticache:{region}:{account}:{kind}:forebay-prod"
        for kind in ("replicationgroup", "user")
    }
    for name in FUNCTIONS:
        variables = cached.function(name)["Environment"]["Variables"]
        granted = {
            arn.replace("<AWS::Partition>", "aws")
            for action, arn in cached.granted(name)
            if action == "elasticache:Connect"
        }
        assert ("FOREBAY_READ_CACHE" in variables, granted) == (
            (True, arns) if name in USERS else (False, set())
        ), name


def test_its_address_is_one_that_the_functions_can_read(cached: Synthesised) -> None:
    text = readable(cached.function("read")["Environment"]["Variables"]["FOREBAY_READ_CACHE"])
    text = text.replace("<", "").replace(">", "")
    host, port = text.split("@")[1].split("/")[0].rsplit(":", 1)
    address = Address.parse(text.replace(host, "host").replace(f":{port}", ":6379"))
    assert address is not None
    assert (address.tls, address.user, address.cache) == (True, "forebay-prod", "forebay-prod")


def test_only_its_users_are_in_the_group_that_reaches_it(cached: Synthesised) -> None:
    groups = {
        name: {
            str(readable(group))
            for group in cached.function(name)["VpcConfig"]["SecurityGroupIds"]
            if "CacheClients" in str(readable(group))
        }
        for name in FUNCTIONS
        if "VpcConfig" in cached.function(name)
    }
    assert {name for name, found in groups.items() if found} == USERS
    (servers,) = cached.properties("service", "AWS::EC2::SecurityGroup")
    (ingress,) = servers["SecurityGroupIngress"]
    assert (ingress["FromPort"], ingress["ToPort"]) == (6379, 6379)
    assert str(readable(ingress["SourceSecurityGroupId"])) in set().union(*groups.values())


def test_the_runner_reaches_it_too(flags: Mapping[str, Any], package: Path) -> None:
    """Commands that change tables announce their changes."""
    app = cdk.App(context=dict(flags))
    settings = settings_of("prod", {**NODES, "operations.runner": True})
    build_app(settings, app=app, packages=lambda _: package)
    template = next(
        stack.template for stack in app.synth().stacks if stack.stack_name.endswith("operations")
    )
    (project,) = (
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::CodeBuild::Project"
    )
    names = {entry["Name"] for entry in project["Environment"]["EnvironmentVariables"]}
    assert "FOREBAY_READ_CACHE" in names
    assert len(project["VpcConfig"]["SecurityGroupIds"]) == 2


def test_without_the_setting_there_is_none(dev: Synthesised) -> None:
    assert dev.properties("service", "AWS::ElastiCache::ReplicationGroup") == []
    assert "FOREBAY_READ_CACHE" not in dev.function("read")["Environment"]["Variables"]


def test_on_one_machine_the_functions_use_the_running_server(local: Synthesised) -> None:
    assert local.properties("service", "AWS::ElastiCache::ReplicationGroup") == []
    for name in FUNCTIONS:
        variables = local.function(name)["Environment"]["Variables"]
        expected = LOCAL_CONTEXT["read_cache"] if name in USERS else None
        assert variables.get("FOREBAY_READ_CACHE") == expected


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("prod", {"database": {**STANDBY, "in_global": None}}, "requires database.kind 'rds'"),
        ("prod", {"database": EXTERNAL}, "requires database.kind 'rds'"),
        ("prod", {"database.proxy": True}, "exclude each other"),
        ("prod", {"read_cache.address": "valkey://a:1"}, "exactly one of node_type"),
    ],
    ids=["aurora", "external", "proxy", "both kinds"],
)
def test_settings_that_could_give_wrong_answers_are_refused_with_the_reason(
    name: str, changes: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        settings_of(name, {**NODES, **changes})


def test_each_target_has_its_own_kind() -> None:
    with pytest.raises(ValidationError, match="for the emulator only"):
        settings_of("prod", {"read_cache": {"address": "valkey://127.0.0.1:1"}})
    values = Settings.load("local", LOCAL_CONTEXT).model_dump(exclude_unset=True)
    values["read_cache"] = {"node_type": "t4g.small"}
    with pytest.raises(ValidationError, match="the emulator has no ElastiCache"):
        Settings.model_validate(values)


def test_a_file_without_the_section_disables_it(tmp_path: Path) -> None:
    """The one-machine stack gives its server's address at each deployment."""
    text = (ENVIRONMENTS / "local.toml").read_text(encoding="utf-8")
    assert "[read_cache]\n" in text
    (tmp_path / "local.toml").write_text(text.replace("[read_cache]\n", ""), encoding="utf-8")

    assert Settings.load("local", LOCAL_CONTEXT, tmp_path).read_cache is None
    assert Settings.load("local", LOCAL_CONTEXT).read_cache is not None
