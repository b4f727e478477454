"""Templates of one environment, as far as a change depends on them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Json = Any

#: A stack stays in its account, so that a literal id and a reference to it are the same.
_ACCOUNT_ID: Final = re.compile(r"(?<!\d)\d{12}(?!\d)")
_ACCOUNT: Final = "<account>"
_SUBSTITUTED: Final = re.compile(r"\$\{([A-Za-z0-9]+)(?:\.[A-Za-z0-9.]+)?\}")


@dataclass(frozen=True, slots=True)
class StackOutput:
    """A place where a template reads another stack's output."""

    #: The stack and the output's logical id; for an import, an empty name and the export's name.
    stack: str
    name: str
    #: True if CloudFormation keeps the output as long as it is read.
    strong: bool


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack's template, and the stacks that are deployed before it."""

    name: str
    template: Mapping[str, Json]
    dependencies: frozenset[str] = field(default_factory=frozenset)

    @property
    def resources(self) -> Mapping[str, Mapping[str, Json]]:
        """The resources by logical id."""
        resources: Mapping[str, Mapping[str, Json]] = self.template.get("Resources", {})
        return resources

    @property
    def outputs(self) -> Mapping[str, Json]:
        """The outputs' values by logical id."""
        outputs: Mapping[str, Json] = self.template.get("Outputs", {})
        return {name: output["Value"] for name, output in outputs.items()}

    @property
    def exports(self) -> Mapping[str, str]:
        """The outputs' logical ids by the names of their exports."""
        return {
            _join(output["Export"]["Name"]): name
            for name, output in self.template.get("Outputs", {}).items()
            if "Export" in output
        }

    @property
    def reads(self) -> frozenset[StackOutput]:
        """The outputs of other stacks that this template reads."""
        return frozenset(_find_reads(self.template))


def get_property(resource: Mapping[str, Json], path: str) -> Json:
    """A property of a resource by its path; None if it is absent."""
    value: Json = resource.get("Properties", {})
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def find_references(value: Json) -> frozenset[str]:
    """The logical ids of the same template that a value refers to."""
    return frozenset(_find_references(value))


def find_reads(value: Json) -> frozenset[StackOutput]:
    """The outputs of other stacks that a value reads."""
    return frozenset(_find_reads(value))


def normalize(value: Json) -> str:
    """The value as text; two texts differ if CloudFormation sees a change."""
    return json.dumps(_flatten(value), sort_keys=True)


def _flatten(value: Json) -> Json:
    match value:
        case {"Ref": "AWS::AccountId"}:
            return _ACCOUNT
        case str():
            return _ACCOUNT_ID.sub(_ACCOUNT, value)
        case {"Fn::Join": [str() as separator, list() as parts]}:
            flat = [_flatten(part) for part in parts]
            joined = all(isinstance(part, str) for part in flat)
            return separator.join(flat) if joined else {"Fn::Join": [separator, flat]}
        case dict():
            return {key: _flatten(item) for key, item in value.items()}
        case list():
            return [_flatten(item) for item in value]
        case _:
            return value


def _join(value: Json) -> str:
    return value if isinstance(value, str) else normalize(value)


def _walk(value: Json) -> Iterator[Mapping[str, Json]]:
    """Every object inside a value, and itself."""
    if isinstance(value, Mapping):
        yield value
        for item in value.values():
            yield from _walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)


def _find_references(value: Json) -> Iterator[str]:
    for item in _walk(value):
        match item:
            case {"Ref": str() as name} if not name.startswith("AWS::"):
                yield name
            case {"Fn::GetAtt": [str() as name, *_]}:
                yield name
            case {"Fn::Sub": str() as text} | {"Fn::Sub": [str() as text, _]}:
                yield from _SUBSTITUTED.findall(text)


def _find_reads(value: Json) -> Iterator[StackOutput]:
    for item in _walk(value):
        match item:
            case {"Fn::ImportValue": name}:
                yield StackOutput("", _join(name), strong=True)
            case {"Fn::GetStackOutput": {"StackName": str() as stack, "OutputName": str() as name}}:
                yield StackOutput(stack, name, strong=False)
