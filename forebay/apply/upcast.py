"""Brings a body that was archived under an older schema version up to the current one."""

from __future__ import annotations

from forebay.command import Command
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec


def upcast(command: Command, spec: ResourceSpec) -> Command:
    """The command with its body as the resource's current schema version has it.

    Raises:
        BodyError: an upcaster failed on this body.
    """
    if command.body is None or command.schema == spec.schema_version:
        return command
    body = dict(command.body)
    for version in range(command.schema, spec.schema_version):
        try:
            body = spec.upcasters[version](body)
        except (
            Exception
        ) as exc:  # the upcaster is the user's code: whatever it raises is its verdict
            raise BodyError(
                "upcast_failed", f"the upcaster from version {version} raised {exc!r}"
            ) from exc
        if not isinstance(body, dict):
            raise BodyError("upcast_failed", f"the upcaster from version {version} made no object")
    return command._replace(body=body, schema=spec.schema_version)
