"""Walk an environment's stacks in the order of their deployment, as CloudFormation would.

CloudFormation updates one stack after the other. In each it creates and changes resources first,
and deletes last; it keeps exports that another stack imports. A stack that is no longer part of the
app is not deleted: an operator does that, after the deployment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from infra.changes.rules import KEEPING, NAMES, PLACES, SINGLE
from infra.changes.templates import (
    Json,
    Stack,
    StackOutput,
    find_references,
    get_property,
    normalize,
)
from infra.changes.update import Obstacle, Update

#: Type and name of a resource.
Name = tuple[str, str]


@dataclass(slots=True)
class Account:
    """The stacks that are deployed, and the resources that no stack contains any more."""

    stacks: dict[str, Stack] = field(default_factory=dict)
    kept: set[Name] = field(default_factory=set)

    def deploy(self, app: Mapping[str, Stack], *, import_existing: bool = False) -> list[Obstacle]:
        """Deploy all stacks of an app, or none if there are obstacles.

        Args:
            app: the stacks by name.
            import_existing: resources of former deployments that were kept are taken back, as
                with the option `--import-existing-resources` of the CDK's CLI.
        """
        kept = set() if import_existing else set(self.kept)
        deployment = _Deployment(self.stacks, kept)
        obstacles = [
            obstacle for stack in sort_stacks(app) for obstacle in deployment.update(stack)
        ]
        if not obstacles:
            self.stacks, self.kept = deployment.stacks, deployment.kept
        return obstacles

    def delete(self, name: str) -> list[Obstacle]:
        """Delete a stack as an operator does, after its protection is removed."""
        stack = self.stacks[name]
        obstacles = [
            Obstacle(name, export, "export", f"{reader.name} imports it")
            for reader in self.stacks.values()
            if reader.name != name
            for export in _list_imports(reader)
            if export in stack.exports
        ]
        if not obstacles:
            self.kept |= _list_kept(stack.resources.values())
            del self.stacks[name]
        return obstacles

    def find_leftovers(self, app: Mapping[str, Stack]) -> list[str]:
        """The deployed stacks that the app does not contain, each before those it depends on."""
        leftovers = {name: stack for name, stack in self.stacks.items() if name not in app}
        return [stack.name for stack in reversed(sort_stacks(leftovers))]


def sort_stacks(app: Mapping[str, Stack]) -> list[Stack]:
    """The stacks in the order of their deployment."""
    done: dict[str, Stack] = {}

    def add(stack: Stack) -> None:
        for name in sorted(stack.dependencies & app.keys()):
            add(app[name])
        done.setdefault(stack.name, stack)

    for stack in app.values():
        add(stack)
    return list(done.values())


class _Deployment:
    """One deployment of an app."""

    def __init__(self, stacks: Mapping[str, Stack], kept: set[Name]) -> None:
        #: The templates at this moment: updated one by one.
        self.stacks = dict(stacks)
        self.kept = kept
        #: Outputs, as `StackOutput` names them, with values that change in this deployment.
        self._changed: set[tuple[str, str]] = set()
        self._new_secrets: set[str] = set()

    def update(self, stack: Stack) -> list[Obstacle]:
        """Update or create one stack."""
        before = self.stacks.get(stack.name)
        update = Update(stack, before, self._is_changed)
        obstacles = [
            *self._check_reads(stack),
            *update.check(),
            *self._check_names(update),
            *(self._check_exports(update, before) if before else ()),
            *(self._check_users(update, before) if before else ()),
            *(self._check_stale(stack, before) if before else ()),
        ]
        self._note_changes(update, before)
        self.kept |= _list_kept(update.removed.values())
        self.stacks[stack.name] = stack
        return obstacles

    def _is_changed(self, read: StackOutput) -> bool:
        return (read.stack, read.name) in self._changed

    def _check_reads(self, stack: Stack) -> Iterator[Obstacle]:
        """Each output that the stack reads must exist by now."""
        exports = {export for other in self.stacks.values() for export in other.exports}
        for read in sorted(stack.reads, key=lambda read: read.name):
            if read.strong:
                exists = read.name in exports
            else:
                exists = read.stack in self.stacks and read.name in self.stacks[read.stack].outputs
            if not exists:
                yield Obstacle(stack.name, read.name, "missing", "no stack has this output")

    def _check_names(self, update: Update) -> Iterator[Obstacle]:
        """A new resource can't have the name of one that exists until the end of the update."""
        owners = {
            name: f"{resource_id} of {stack.name}"
            for stack in self.stacks.values()
            for resource_id, resource in stack.resources.items()
            for name in build_names(resource, stack.name)
        }
        owners |= dict.fromkeys(self.kept, "a resource that a former deployment kept")
        for resource_id in update.created:
            resource = update.stack.resources[resource_id]
            for name in sorted(build_names(resource, update.stack.name, update.replaced)):
                if name in owners:
                    reason = f"{owners[name]} has its name"
                    kind = resource["Type"]
                    yield Obstacle(update.stack.name, resource_id, "name", reason, kind)

    def _check_exports(self, update: Update, before: Stack) -> Iterator[Obstacle]:
        """CloudFormation neither removes nor changes an export that another stack imports."""
        stack = update.stack
        for reader in self.stacks.values():
            for export in _list_imports(reader):
                if export not in before.exports:
                    continue
                output = before.exports[export]
                if export not in stack.exports or update.changes_output(
                    before.outputs[output], stack.outputs[stack.exports[export]]
                ):
                    yield Obstacle(stack.name, export, "export", f"{reader.name} imports it")

    def _check_users(self, update: Update, before: Stack) -> Iterator[Obstacle]:
        """Subnets and security groups can't be deleted while functions of other stacks use them."""
        for resource_id, resource in sorted(update.removed.items()):
            if resource["Type"] not in PLACES:
                continue
            outputs = {
                name
                for name, value in before.outputs.items()
                if resource_id in find_references(value)
            }
            users = sorted(
                other.name for other in self.stacks.values() if _reads_any(other, before, outputs)
            )
            if users:
                reason = f"{', '.join(users)} still uses it"
                yield Obstacle(before.name, resource_id, "in use", reason, resource["Type"])

    def _check_stale(self, stack: Stack, before: Stack) -> Iterator[Obstacle]:
        """A template without a change is not deployed, so it keeps the values that it read."""
        if stack.template != before.template:
            return
        for read in sorted(stack.reads, key=lambda read: read.name):
            if self._is_changed(read):
                yield Obstacle(stack.name, read.name, "stale", "its value changes")
        text = normalize(stack.template)
        for secret in sorted(self._new_secrets):
            if f"{{{{resolve:secretsmanager:{secret}:" in text:
                yield Obstacle(stack.name, secret, "stale", "the secret is another one")

    def _note_changes(self, update: Update, before: Stack | None) -> None:
        stack, old = update.stack, before.outputs if before else {}
        changed = {
            output
            for output, value in stack.outputs.items()
            if output in old and update.changes_output(old[output], value)
        }
        self._changed |= {(stack.name, output) for output in changed}
        self._changed |= {("", name) for name, output in stack.exports.items() if output in changed}
        self._new_secrets |= {
            str(get_property(stack.resources[resource_id], "Name"))
            for resource_id in update.created
            if stack.resources[resource_id]["Type"] == "AWS::SecretsManager::Secret"
        }


def build_names(
    resource: Mapping[str, Json], stack: str, replaced: Collection[str] = ()
) -> set[Name]:
    """What no other resource may have in common with a resource; empty if its name is generated.

    Args:
        resource: the resource.
        stack: its stack. A name that contains a reference is unique within it.
        replaced: resources of the template that get another id, which then differs in the name.
    """
    names = set()
    for paths in (NAMES.get(resource["Type"]), SINGLE.get(resource["Type"])):
        values = [get_property(resource, path) for path in paths or ()]
        if not values or None in values:
            continue
        references = find_references(values)
        marks = [stack, *sorted(references & set(replaced))] if references else []
        names.add((resource["Type"], normalize([paths, values, marks])))
    return names


def _list_kept(resources: Collection[Mapping[str, Json]]) -> set[Name]:
    """The names of removed resources that their deletion policy keeps."""
    return {
        name
        for resource in resources
        if resource.get("DeletionPolicy") in KEEPING
        for name in build_names(resource, "")
    }


def _list_imports(reader: Stack) -> list[str]:
    return sorted(read.name for read in reader.reads if read.strong)


def _reads_any(reader: Stack, stack: Stack, outputs: Collection[str]) -> bool:
    exports = {name for name, output in stack.exports.items() if output in outputs}
    return any(
        read.name in exports if read.strong else read.stack == stack.name and read.name in outputs
        for read in reader.reads
    )
