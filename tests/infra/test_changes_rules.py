"""The model of CloudFormation, rule by rule, on templates of a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from forebay.errors import SettingsError
from infra.changes.advice import describe
from infra.changes.templates import Stack
from infra.changes.update import Obstacle
from infra.changes.walk import Account

Resources = Mapping[str, Mapping[str, Any]]


def stack(
    name: str,
    resources: Resources,
    *,
    outputs: Mapping[str, Any] | None = None,
    exported: bool = False,
    after: Sequence[str] = (),
) -> Stack:
    """A stack whose exports, if any, have the names of their outputs."""
    values = {
        key: {"Value": value, **({"Export": {"Name": key}} if exported else {})}
        for key, value in (outputs or {}).items()
    }
    return Stack(name, {"Resources": resources, "Outputs": values}, frozenset(after))


def resource(kind: str, *, policy: str | None = None, **properties: Any) -> Mapping[str, Any]:
    kept = {} if policy is None else {"DeletionPolicy": policy}
    return {"Type": f"AWS::{kind}", "Properties": properties, **kept}


def change(before: Sequence[Stack], after: Sequence[Stack]) -> list[Obstacle]:
    """The obstacles of a second deployment."""
    account = Account()
    assert account.deploy({one.name: one for one in before}) == []
    return account.deploy({one.name: one for one in after})


def rules(obstacles: Sequence[Obstacle]) -> list[tuple[str, str]]:
    assert all(describe(obstacle) for obstacle in obstacles)
    return [(obstacle.subject, obstacle.rule) for obstacle in obstacles]


TOPIC = resource("SNS::Topic")
READER = stack(
    "reader", {"B": resource("SQS::Queue", Url={"Fn::ImportValue": "Out"})}, after=["source"]
)
WEAK_READER = stack(
    "reader",
    {
        "B": resource(
            "SQS::Queue", Url={"Fn::GetStackOutput": {"StackName": "source", "OutputName": "Out"}}
        )
    },
    after=["source"],
)
SOURCE = stack("source", {"A": TOPIC}, outputs={"Out": {"Ref": "A"}}, exported=True)
WITHOUT = stack("source", {"A": TOPIC})


def test_an_export_in_use_is_never_dropped() -> None:
    free = stack("reader", {"B": resource("SQS::Queue")}, after=["source"])

    assert rules(change([SOURCE, READER], [WITHOUT, free])) == [("Out", "export")]
    # In two deployments, the reader first.
    assert change([SOURCE, free], [WITHOUT, free]) == []


@pytest.mark.parametrize("kind", ["value", "resource"])
def test_an_export_in_use_is_never_changed(kind: str) -> None:
    topic = {"A": resource("SNS::Topic", TopicName="other"), "C": TOPIC}
    value = {"Ref": "C"} if kind == "value" else {"Ref": "A"}
    before = stack("source", {"A": TOPIC, "C": TOPIC}, outputs={"Out": {"Ref": "A"}}, exported=True)
    after = stack("source", topic, outputs={"Out": value}, exported=True)

    assert rules(change([before, READER], [after, READER]))[0] == ("Out", "export")


def test_a_stack_that_has_left_the_app_keeps_its_imports_in_use() -> None:
    account = Account()
    assert account.deploy({"source": SOURCE, "reader": READER}) == []

    assert rules(account.deploy({"source": WITHOUT})) == [("Out", "export")]
    assert rules(account.delete("source")) == [("Out", "export")]
    assert account.find_leftovers({}) == ["reader", "source"]
    assert account.delete("reader") == []
    assert account.deploy({"source": WITHOUT}) == []


def test_an_output_is_there_before_it_is_read() -> None:
    assert rules(Account().deploy({"reader": WEAK_READER})) == [("Out", "missing")]
    assert rules(Account().deploy({"reader": READER, "source": WITHOUT})) == [("Out", "missing")]
    assert Account().deploy({"reader": READER, "source": SOURCE}) == []


def test_a_template_without_a_change_keeps_the_values_that_it_read() -> None:
    renamed = {"A": resource("SNS::Topic", TopicName="other")}
    before = stack("source", {"A": TOPIC}, outputs={"Out": {"Ref": "A"}})
    after = stack("source", renamed, outputs={"Out": {"Ref": "A"}})
    changed = stack(
        "reader", {**WEAK_READER.resources, "C": resource("SQS::Queue")}, after=["source"]
    )

    assert rules(change([before, WEAK_READER], [after, WEAK_READER])) == [("Out", "stale")]
    assert change([before, WEAK_READER], [after, changed]) == []


def test_a_name_is_taken_until_the_end_of_the_update() -> None:
    topic = resource("SNS::Topic", TopicName="t")
    before = [stack("one", {"A": topic})]

    # Renamed constructs have other logical ids.
    assert rules(change(before, [stack("one", {"B": topic})])) == [("B", "name")]
    policy = resource("IAM::ManagedPolicy", ManagedPolicyName="p", Description="old")
    replaced = resource("IAM::ManagedPolicy", ManagedPolicyName="p", Description="new")
    obstacles = change([stack("one", {"A": policy})], [stack("one", {"A": replaced})])
    assert rules(obstacles) == [("A", "name")]


def test_a_kept_resource_keeps_its_name() -> None:
    named = resource("KinesisFirehose::DeliveryStream", policy="Retain", DeliveryStreamName="s")
    account = Account()
    assert account.deploy({"one": stack("one", {"A": named})}) == []
    assert account.deploy({"one": stack("one", {})}) == []

    assert rules(account.deploy({"one": stack("one", {"A": named})})) == [("A", "name")]
    assert account.deploy({"one": stack("one", {"A": named})}, import_existing=True) == []


def test_no_other_type_has_the_same_id() -> None:
    before = stack("one", {"A": resource("RDS::DBParameterGroup", Family="postgres18")})
    after = stack("one", {"A": resource("RDS::DBClusterParameterGroup", Family="postgres18")})

    assert rules(change([before], [after])) == [("A", "type")]


def subnet(cidr: str) -> Mapping[str, Any]:
    return resource("EC2::Subnet", VpcId={"Ref": "Vpc"}, CidrBlock=cidr)


def test_no_new_subnet_overlaps_one_that_still_exists() -> None:
    vpc = {"Vpc": resource("EC2::VPC", CidrBlock="10.0.0.0/16")}
    before = stack("one", {**vpc, "A": subnet("10.0.0.0/21")})

    obstacles = change([before], [stack("one", {**vpc, "A": subnet("10.0.0.0/22")})])

    assert rules(obstacles) == [("A", "overlap"), ("A", "moved")]
    # Although A is deleted at the end.
    obstacles = change([before], [stack("one", {**vpc, "B": subnet("10.0.4.0/22")})])
    assert rules(obstacles) == [("B", "overlap")]
    assert (
        change([before], [stack("one", {**vpc, **before.resources, "B": subnet("10.0.8.0/21")})])
        == []
    )


def test_a_subnet_is_not_removed_while_another_stack_s_functions_are_in_it() -> None:
    vpc = {"Vpc": resource("EC2::VPC", CidrBlock="10.0.0.0/16")}
    before = stack("source", {**vpc, "A": subnet("10.0.0.0/21")}, outputs={"Out": {"Ref": "A"}})
    free = stack("reader", {"B": resource("SQS::Queue")}, after=["source"])

    assert rules(change([before, WEAK_READER], [stack("source", vpc), free])) == [("A", "in use")]
    assert change([before, free], [stack("source", vpc), free]) == []


@pytest.mark.parametrize(
    ("kind", "properties", "other"),
    [
        ("RDS::DBInstance", {"DBName": "a"}, {"DBName": "b"}),
        ("RDS::DBCluster", {"DBClusterIdentifier": "a"}, {"DBClusterIdentifier": "b"}),
        ("S3::Bucket", {"BucketName": "a"}, {"BucketName": "b"}),
        ("ApiGateway::ApiKey", {"Name": "a"}, {"Name": "b"}),
    ],
)
def test_needed_resources_are_not_replaced_or_removed_silently(
    kind: str, properties: Mapping[str, str], other: Mapping[str, str]
) -> None:
    """A policy that keeps the old resource does not put its content into the new one."""
    before = [stack("one", {"A": resource(kind, policy="Snapshot", **properties)})]
    kept = [stack("one", {"A": resource(kind, policy="Retain", **properties)})]

    assert rules(change(before, [stack("one", {"A": resource(kind, **other)})])) == [("A", "held")]
    assert rules(change(before, [stack("one", {})])) == [("A", "held")]
    assert rules(change(kept, [stack("one", {"A": resource(kind, **other)})])) == [("A", "held")]
    assert change(kept, [stack("one", {})]) == []


def test_a_replica_holds_nothing_of_its_own() -> None:
    primary = resource("RDS::DBInstance", policy="Retain", DBInstanceIdentifier="a")
    replica = resource(
        "RDS::DBInstance", DBInstanceIdentifier="r", SourceDBInstanceIdentifier={"Ref": "A"}
    )

    assert (
        change([stack("one", {"A": primary, "R": replica})], [stack("one", {"A": primary})]) == []
    )


def test_a_replacement_also_replaces_resources_that_refer_to_it_immutably() -> None:
    group = {"G": resource("RDS::DBSubnetGroup", DBSubnetGroupName="a")}
    other = {"G": resource("RDS::DBSubnetGroup", DBSubnetGroupName="b")}
    server = {"A": resource("RDS::DBInstance", DBSubnetGroupName={"Ref": "G"})}

    obstacles = change([stack("one", {**group, **server})], [stack("one", {**other, **server})])

    assert rules(obstacles) == [("A", "held")]


def test_a_reference_to_the_account_is_its_id() -> None:
    reference = {"Fn::Join": ["-", ["archive", {"Ref": "AWS::AccountId"}]]}
    before = stack("one", {"A": resource("S3::Bucket", BucketName=reference)})

    assert (
        change(
            [before],
            [stack("one", {"A": resource("S3::Bucket", BucketName="archive-123456789012")})],
        )
        == []
    )


def test_a_property_that_aws_does_not_clear_is_not_removed() -> None:
    closed = stack("one", {"A": resource("ApiGateway::RestApi", Policy={"Statement": []})})
    bare = stack("one", {"A": resource("ApiGateway::RestApi")})

    assert rules(change([closed], [bare])) == [("A", "sticky")]
    assert change([bare], [closed]) == []


def test_a_type_without_rules_is_an_error() -> None:
    other = [stack("one", {"A": resource("Kinesis::Stream", Name="a")})]

    with pytest.raises(SettingsError, match="no entry for AWS::Kinesis::Stream"):
        change(other, other)


def test_an_api_that_gets_a_definition_may_lose_parts_of_it_until_it_is_imported_again() -> None:
    api = {"Ref": "Api"}
    before = stack(
        "source",
        {
            "Api": resource("ApiGateway::RestApi", Name="a"),
            "Items": resource("ApiGateway::Resource", RestApiId=api, PathPart="items"),
            "Get": resource("ApiGateway::Method", RestApiId=api, HttpMethod="GET"),
            "Failed": resource(
                "ApiGateway::GatewayResponse", RestApiId=api, ResponseType="THROTTLED"
            ),
        },
    )
    bodies: Sequence[Mapping[str, Any]] = (
        {"Body": {"openapi": "3.0.1"}},
        {"BodyS3Location": {"Bucket": "b", "Key": "k"}},
    )
    for body in bodies:
        defined = stack("source", {"Api": resource("ApiGateway::RestApi", Name="a", **body)})
        (obstacle,) = change([before], [defined])
        assert rules([obstacle]) == [("Api", "definition")]
        assert "3 parts" in describe(obstacle)
        assert "api.definition_number" in describe(obstacle)
        # Another definition is an ordinary change.
        other: Mapping[str, Any] = {"Body": {"openapi": "3.0.1", "info": {"version": "2"}}}
        again = stack("source", {"Api": resource("ApiGateway::RestApi", Name="a", **other)})
        assert change([defined], [again]) == []
