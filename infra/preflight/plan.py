"""The resources that a deployment creates: those of the templates without the deployed ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from infra.changes.rules import NAMES
from infra.changes.templates import Json, Stack, get_property
from infra.front import EDGE_REGION
from infra.settings import Settings

#: Types with names that are unique only within an object that the same stack creates.
_NESTED: Final = frozenset(
    {
        "AWS::CodeDeploy::DeploymentGroup",
        "AWS::Cognito::UserPoolResourceServer",
        "AWS::Lambda::Alias",
        "AWS::Logs::LogStream",
        "AWS::Route53::RecordSet",  # CloudFormation replaces no record; the zone is checked
    }
)


@dataclass(frozen=True, slots=True)
class NamedResource:
    """A resource with a fixed name."""

    stack: str
    type: str
    #: The value of the property that contains the name; the first one, of several.
    name: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An environment's settings, its templates, and the templates that are deployed."""

    settings: Settings
    account_id: str
    stacks: Mapping[str, Stack]
    deployed: Mapping[str, Stack]
    #: The settings of the other environments on AWS, which may share the account.
    others: Sequence[Settings] = ()
    #: The paths of the API's routes.
    paths: Sequence[str] = ()

    @property
    def regions(self) -> list[str]:
        """The regions of the stacks; the environment's own is the first."""
        regions = [self.settings.region]
        if self.settings.edge is not None and self.settings.region != EDGE_REGION:
            regions.append(EDGE_REGION)
        return regions

    def list_resources(self, resource_type: str) -> list[Mapping[str, Json]]:
        """All resources of a type, of all stacks."""
        return _list_resources(self.stacks, resource_type)

    def count_new(self, resource_type: str, **properties: object) -> int:
        """How many more resources of a type the deployment creates.

        Args:
            resource_type: CloudFormation's name of the type.
            properties: only count resources with these properties.
        """

        def count(stacks: Mapping[str, Stack]) -> int:
            return sum(
                all(get_property(resource, key) == value for key, value in properties.items())
                for resource in _list_resources(stacks, resource_type)
            )

        return max(0, count(self.stacks) - count(self.deployed))

    def list_new_names(self) -> list[NamedResource]:
        """The resources with a fixed name that no deployed stack of the environment has."""
        existing = {
            (resource.type, resource.name, resource.region)
            for resource in self._list_names(self.deployed)
        }
        return [
            resource
            for resource in self._list_names(self.stacks)
            if (resource.type, resource.name, resource.region) not in existing
        ]

    def find_region(self, stack: str) -> str:
        """The region of a stack of the environment."""
        return EDGE_REGION if stack.endswith("-edge") else self.settings.region

    def _list_names(self, stacks: Mapping[str, Stack]) -> Iterator[NamedResource]:
        for stack in stacks.values():
            region = self.find_region(stack.name)
            for resource in stack.resources.values():
                kind = resource["Type"]
                if kind not in NAMES or kind in _NESTED:
                    continue
                name = self.resolve(get_property(resource, NAMES[kind][0]), region)
                if name is not None:
                    yield NamedResource(stack.name, kind, name, region)

    def resolve(self, value: Json, region: str) -> str | None:
        """The text of a value; None if it depends on another resource."""
        match value:
            case str():
                return value
            case {"Ref": "AWS::AccountId"}:
                return self.account_id
            case {"Ref": "AWS::Region"}:
                return region
            case {"Ref": "AWS::Partition"}:
                return "aws"
            case {"Fn::Join": [str() as separator, list() as parts]}:
                texts = [self.resolve(part, region) for part in parts]
                known = [text for text in texts if text is not None]
                return separator.join(known) if len(known) == len(texts) else None
            case _:
                return None


def _list_resources(stacks: Mapping[str, Stack], resource_type: str) -> list[Mapping[str, Json]]:
    return [
        resource
        for stack in stacks.values()
        for resource in stack.resources.values()
        if resource["Type"] == resource_type
    ]
