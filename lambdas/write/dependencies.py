"""Reads the commands that a write's condition or increment depends on: `Read-After`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forebay.conditional import read_address
from forebay.ids import is_command_id
from forebay.keys import read_key
from forebay.problem import ProblemError
from forebay.resource.spec import ResourceSpec
from forebay.routes import Route
from lambdas.write.requests import WriteRequest


def read_dependencies(
    resources: Mapping[str, ResourceSpec], route: Route, request: WriteRequest
) -> dict[tuple[str, str], Sequence[str]]:
    """The commands in `Read-After`, by resource and key as text.

    The path of a status names its item, and an id alone the item of the request's path. An entity
    tag names a state that a replica has shown, so there is nothing to wait for.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for text in request.read_after:
        address = read_address(text)
        if address is None:
            address = (route.resource, request.path_parameters.get("key", ""), text.strip())
        path, key_text, command_id = address
        target = _read_target(resources, path, key_text)
        if target is not None and is_command_id(command_id):
            found.setdefault(target, []).append(command_id)
    return dict(found)


def _read_target(
    resources: Mapping[str, ResourceSpec], path: str, key_text: str
) -> tuple[str, str] | None:
    spec = resources.get(path)
    if spec is None or not key_text:
        return None
    try:
        return path, str(read_key(spec, key_text))
    except ProblemError:  # no command has such a key
        return None
