"""Read synthesised templates in the terms of the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aws_cdk as cdk

import resources
from forebay.routes import Route, routes
from infra.app import build_app
from infra.changes.templates import find_references
from infra.settings import FunctionName, Settings

ROOT = Path(__file__).resolve().parents[2]

LOCAL_CONTEXT = {
    "database_url": "postgresql://forebay:secret@127.0.0.1:8083/forebay",
    "replica_url": "postgresql://forebay:secret@127.0.0.1:8084/forebay",
    "firehose_endpoint": "http://127.0.0.1:8082",
    "read_cache": "valkey://default:secret@127.0.0.1:8085",
}


@dataclass(frozen=True, slots=True)
class Synthesised:
    """An environment's templates, and the settings and routes that they were made from."""

    settings: Settings
    routes: Sequence[Route]
    data: Mapping[str, Any]
    service: Mapping[str, Any]
    #: Empty if the environment uses an existing database.
    database: Mapping[str, Any]

    @classmethod
    def of(cls, settings: Settings, flags: Mapping[str, Any], package: Path) -> Self:
        """Synthesise the app as the CLI does, with the same package for every function."""
        served = routes(resources.load())
        app = cdk.App(context=dict(flags))
        build_app(settings, app=app, served=served, packages=lambda _: package)
        assembly = app.synth()
        templates = {stack.stack_name: stack.template for stack in assembly.stacks}
        return cls(
            settings=settings,
            routes=served,
            data=templates[f"{settings.prefix}-data"],
            service=templates[f"{settings.prefix}-service"],
            database=templates.get(f"{settings.prefix}-database", {"Resources": {}}),
        )

    def properties(self, stack: str, resource_type: str) -> list[Mapping[str, Any]]:
        """The properties of all resources of a type."""
        return [resource.get("Properties", {}) for resource in self.resources(stack, resource_type)]

    def only(self, stack: str, resource_type: str) -> Mapping[str, Any]:
        """The properties of the only resource of a type."""
        (resource,) = self.properties(stack, resource_type)
        return resource

    def resources(self, stack: str, resource_type: str) -> list[Mapping[str, Any]]:
        """All resources of a type."""
        everything = getattr(self, stack)["Resources"].values()
        return [resource for resource in everything if resource["Type"] == resource_type]

    @property
    def archive(self) -> Mapping[str, Any]:
        """The archive bucket's resource."""
        (bucket,) = (
            bucket
            for bucket in self.resources("data", "AWS::S3::Bucket")
            if "-archive-" in readable(bucket["Properties"]["BucketName"])
        )
        return bucket

    def function(self, name: FunctionName) -> Mapping[str, Any]:
        """The properties of a function of the product."""
        suffix = f"-{name.replace('_', '-')}"
        (resource,) = (
            properties
            for properties in self.properties("service", "AWS::Lambda::Function")
            if str(properties.get("FunctionName", "")).endswith(suffix)
        )
        return resource

    def granted(self, name: FunctionName) -> set[tuple[str, str]]:
        """All permissions of a function's role, as pairs of action and readable resource."""
        role = self.function(name)["Role"]["Fn::GetAtt"][0]
        documents = [
            policy["PolicyDocument"]
            for policy in self.service["Resources"][role]["Properties"].get("Policies", [])
        ]
        documents += [
            policy["PolicyDocument"]
            for policy in self.properties("service", "AWS::IAM::Policy")
            if {"Ref": role} in policy["Roles"]
        ]
        return {
            (action, readable(resource))
            for document in documents
            for statement in document["Statement"]
            for action in _listed(statement["Action"])
            for resource in _listed(statement["Resource"])
        }


def list_needed(template: Mapping[str, Any], name: str) -> set[str]:
    """The resources that CloudFormation creates or updates before a resource."""
    needed: set[str] = set()
    remaining = [name]
    while remaining:
        resource = template["Resources"][remaining.pop()]
        found = find_references(resource) | set(_listed(resource.get("DependsOn", [])))
        remaining += (found & template["Resources"].keys()) - needed
        needed |= found & template["Resources"].keys()
    return needed


def readable(value: Any) -> str:
    """A template's value as text, with referenced names in angle brackets."""
    match value:
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(readable(part) for part in parts)
        case (
            {"Ref": name} | {"Fn::ImportValue": name} | {"Fn::GetStackOutput": {"OutputName": name}}
        ):
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case _:
            return str(value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
