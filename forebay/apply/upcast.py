"""Upcasts bodies that were archived under an older schema version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

from forebay.apply.fold import by_resource
from forebay.command import Command
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec


def upcast(command: Command, spec: ResourceSpec) -> Command:
    """The command with its body in the resource's current schema version.

    Raises:
        BodyError: an upcaster failed on this body.
    """
    if command.body is None or command.schema == spec.schema_version:
        return command
    # A deep copy: an upcaster may change nested values, and a rejection contains the archived body.
    body = deepcopy(command.body)
    for version in range(command.schema, spec.schema_version):
        try:
            body = spec.upcasters[version](body)
        except (
            Exception
        ) as exc:  # the upcaster is user code, so any exception is its refusal of the body
            raise BodyError(
                "upcast_failed", f"the upcaster from version {version} raised {exc!r}"
            ) from exc
        if not isinstance(body, dict):
            raise BodyError("upcast_failed", f"the upcaster from version {version} made no object")
    return command._replace(body=body, schema=spec.schema_version)


def are_all_current(commands: Sequence[Command], resources: Mapping[str, ResourceSpec]) -> bool:
    """Return whether every command has a declared resource, its schema version and its key type.

    The common case; one check per chunk is ten times faster than a check per command.
    """
    for path, of_resource in by_resource(commands).items():
        spec = resources.get(path)
        if spec is None or {command.schema for command in of_resource} != {spec.schema_version}:
            return False
        if not spec.fit_keys([command.key for command in of_resource]):
            return False
    return True
