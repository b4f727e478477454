"""One stack's update: what CloudFormation creates, replaces and removes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network

from forebay.errors import SettingsError
from infra.changes.rules import (
    CREATE_ONLY,
    DEFINED,
    DEFINITION,
    HELD,
    KEEPING,
    NEEDED,
    PLACES,
    REFUSED,
    STICKY,
)
from infra.changes.templates import (
    Json,
    Stack,
    StackOutput,
    find_reads,
    find_references,
    get_property,
    normalize,
)

_API = "AWS::ApiGateway::RestApi"
_SUBNET = "AWS::EC2::Subnet"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A reason why a change fails, or loses something."""

    stack: str
    #: The resource's logical id, or the output's name.
    subject: str
    #: The broken rule (`infra/changes/advice.py`).
    rule: str
    reason: str
    #: The resource's type; empty for an output.
    type: str = ""


class Update:
    """The differences between two templates of one stack."""

    def __init__(
        self, stack: Stack, before: Stack | None, is_changed: Callable[[StackOutput], bool]
    ) -> None:
        """Compare the templates.

        Args:
            stack: the new template.
            before: the deployed template; None if the stack is created.
            is_changed: True for outputs of other stacks with values that change in this deployment.
        """
        self.stack = stack
        self._before: Mapping[str, Mapping[str, Json]] = before.resources if before else {}
        self._is_changed = is_changed
        self.removed = {name: self._before[name] for name in self._before - stack.resources.keys()}
        self.added = stack.resources.keys() - self._before.keys()
        self.replaced: set[str] = set()
        # A replacement gives its references another value, which may replace others.
        while names := {name for name in self._list_common() if self._is_replaced(name)}:
            self.replaced |= names

    @property
    def created(self) -> list[str]:
        """The resources that are created: new ones, and replacements."""
        return sorted(self.added | self.replaced)

    def get_before(self, name: str) -> Mapping[str, Json]:
        """A resource of the deployed template."""
        return self._before[name]

    def changes_output(self, before: Json, after: Json) -> bool:
        """True if an output gets another value."""
        return normalize(before) != normalize(after) or self._refers_to_changes(after)

    def check(self) -> Iterator[Obstacle]:
        """The obstacles within the stack."""
        yield from self._check_types()
        yield from self._check_refused()
        yield from self._check_subnets()
        yield from self._check_held()
        yield from self._check_definitions()

    def _list_common(self) -> set[str]:
        return (self.stack.resources.keys() & self._before.keys()) - self.replaced

    def _is_replaced(self, name: str) -> bool:
        old, new = self._before[name], self.stack.resources[name]
        if old["Type"] != new["Type"]:
            return False
        return any(
            normalize(get_property(old, path)) != normalize(get_property(new, path))
            or self._refers_to_changes(get_property(new, path))
            for path in _list_create_only(new)
        )

    def _refers_to_changes(self, value: Json) -> bool:
        return bool(find_references(value) & self.replaced) or any(
            self._is_changed(read) for read in find_reads(value)
        )

    def _check_types(self) -> Iterator[Obstacle]:
        """CloudFormation refuses another type under the same logical id."""
        for name in sorted(self.stack.resources.keys() & self._before.keys()):
            old, new = self._before[name]["Type"], self.stack.resources[name]["Type"]
            if old != new:
                yield self._build_obstacle(name, "type", f"its type changes from {old} to {new}")

    def _check_refused(self) -> Iterator[Obstacle]:
        """Some changes in place are refused by the service."""
        for name in sorted(self._list_common()):
            old, new = self._before[name], self.stack.resources[name]
            for path in STICKY.get(old["Type"], ()):
                if get_property(old, path) is not None and get_property(new, path) is None:
                    yield self._build_obstacle(name, "sticky", f"{path} stays as it is")
            if old["Type"] not in REFUSED:
                continue
            path, before, after = REFUSED[old["Type"]]
            if get_property(old, path) == before and get_property(new, path) == after:
                reason = f"{path} can't change from {before} to {after}"
                yield self._build_obstacle(name, "refused", reason)

    def _check_subnets(self) -> Iterator[Obstacle]:
        """A new subnet can't overlap one that exists until the end of the update."""
        existing = {
            name: _get_network(resource)
            for name, resource in self._before.items()
            if resource["Type"] == _SUBNET
            and not find_references(get_property(resource, "VpcId")) & self.replaced
        }
        for name in self.created:
            resource = self.stack.resources[name]
            if resource["Type"] != _SUBNET:
                continue
            network = _get_network(resource)
            for other, taken in existing.items():
                if network.overlaps(taken):
                    reason = f"its addresses {network} overlap those of {other}, {taken}"
                    yield self._build_obstacle(name, "overlap", reason)

    def _check_held(self) -> Iterator[Obstacle]:
        """No resource that callers or data depend on is replaced, or removed without being kept."""
        for name in sorted(self.replaced):
            if content := _find_held(self._before[name]):
                yield self._build_obstacle(
                    name, "held", f"its replacement would not have {content}"
                )
            if self._before[name]["Type"] in PLACES:
                yield self._build_obstacle(name, "moved", "servers and functions are in it")
        for name, resource in sorted(self.removed.items()):
            content = _find_held(resource)
            keeps = resource.get("DeletionPolicy") in KEEPING and resource["Type"] not in NEEDED
            if content and not keeps:
                yield self._build_obstacle(name, "held", f"its removal would delete {content}")

    def _check_definitions(self) -> Iterator[Obstacle]:
        """An import takes over the parts of an API, which the end of the update then deletes.

        The paths may keep their ids (API Gateway developer guide, "Import an OpenAPI file to update
        an existing API definition", leaves it open), and gateway responses are known by their types
        only. The stage serves its deployment, which the deletions don't change.
        """
        parts = [name for name, one in self.removed.items() if one["Type"] in DEFINED]
        for name in sorted(self._list_common()):
            old, new = self._before[name], self.stack.resources[name]
            is_defined = [
                any(get_property(one, path) is not None for path in DEFINITION)
                for one in (old, new)
            ]
            if old["Type"] == _API and is_defined == [False, True] and parts:
                reason = (
                    f"it gets a definition, and then {len(parts)} parts of the former API are "
                    "deleted, perhaps with the parts of the same names that the definition has made"
                )
                yield self._build_obstacle(name, "definition", reason)

    def _build_obstacle(self, name: str, rule: str, reason: str) -> Obstacle:
        resource = self._before.get(name) or self.stack.resources[name]
        return Obstacle(self.stack.name, name, rule, reason, resource["Type"])


def _list_create_only(resource: Mapping[str, Json]) -> tuple[str, ...]:
    kind = resource["Type"]
    if kind not in CREATE_ONLY:
        raise SettingsError(
            f"infra/changes/rules.py has no entry for {kind}: add its createOnlyProperties to "
            "CREATE_ONLY"
        )
    return CREATE_ONLY[kind]


def _find_held(resource: Mapping[str, Json]) -> str | None:
    """What a replacement of the resource loses; None for no loss."""
    if resource["Type"] == "AWS::RDS::DBInstance" and (
        get_property(resource, "SourceDBInstanceIdentifier") is not None
        or get_property(resource, "DBClusterIdentifier") is not None
    ):
        return None  # a replica, or a member of a cluster: the tables are elsewhere
    return HELD.get(resource["Type"])


def _get_network(subnet: Mapping[str, Json]) -> IPv4Network:
    return IPv4Network(get_property(subnet, "CidrBlock"))
