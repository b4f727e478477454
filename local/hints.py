"""Example commands for a running stack, made from the declared resources."""

import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from forebay.openapi.examples import make_item
from forebay.openapi.schemas import build_request_properties
from forebay.resource.body import BodyInvalidError
from forebay.resource.spec import ResourceSpec


def build_commands(resources: Mapping[str, ResourceSpec], url: str) -> str:
    """Return lines for a shell, to run in their order.

    The write is a create, so a second run makes no change.

    Returns:
        A write, its status and a read of the item. Only a read of a list, if no declaration has a
        valid example; a sentence, if no resource is declared.
    """
    for spec in _sort_by_preference(resources):
        item = make_item(spec, build_request_properties(spec))
        key = item.pop(spec.key.name)
        if _is_valid(spec, str(key), item):
            return _write_and_read(f"{url}/{spec.path}/{quote(str(key), safe='')}", item)
    if resources:
        return f"  curl -s '{url}/{next(iter(resources))}?limit=2'"
    return "  (no resource is declared in resources/: see docs/resources.md)"


def _sort_by_preference(resources: Mapping[str, ResourceSpec]) -> list[ResourceSpec]:
    """Return the resources without enforced references, those with natural keys first."""
    alone = [
        spec
        for spec in resources.values()
        if not any(field.references and field.references.enforced for field in spec.fields)
    ]
    return sorted(alone, key=lambda spec: spec.key_is_made)


def _is_valid(spec: ResourceSpec, key: str, item: Mapping[str, Any]) -> bool:
    """Return whether the item is valid: a validator of the declaration may refuse the example."""
    try:
        spec.body.read_key(key)
        spec.body.validate(orjson.dumps(item))
    except (BodyInvalidError, ValueError):
        return False
    return True


def _write_and_read(address: str, item: Mapping[str, Any]) -> str:
    body = shlex.quote(orjson.dumps(item).decode())
    return f"""\
  id=$(curl -s -X PUT {address} -H 'Content-Type: application/json' -H 'If-None-Match: *' \\
    -d {body} | tee /dev/stderr | grep -o '"command_id":"[^"]*' | cut -d'"' -f4)
  curl -s -H 'Prefer: wait=10' {address}/commands/$id
  curl -s -H "Read-After: $id" {address}"""
