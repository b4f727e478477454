"""Commands with which a user tries a running stack, made from what is declared."""

import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from forebay.openapi.examples import item_of
from forebay.openapi.schemas import request_properties
from forebay.resource.body import BodyInvalidError
from forebay.resource.spec import ResourceSpec


def build_commands(resources: Mapping[str, ResourceSpec], url: str) -> str:
    """Lines for a shell, each of which works when it is pasted after those before.

    The write is a create: pasted a second time, or where the item is there, it changes nothing.

    Args:
        resources: the declarations, by path.
        url: of the API, with the stage.

    Returns:
        A write, its status and a read of the item; only a read where no declaration has an example
        that it takes itself; a sentence where nothing is declared.
    """
    for spec in _by_preference(resources):
        item = item_of(spec, request_properties(spec))
        key = item.pop(spec.key.name)
        if _is_taken(spec, str(key), item):
            return _write_and_read(f"{url}/{spec.path}/{quote(str(key), safe='')}", item)
    if resources:
        return f"  curl -s '{url}/{next(iter(resources))}?limit=2'"
    return "  (no resource is declared in resources/: see docs/resources.md)"


def _by_preference(resources: Mapping[str, ResourceSpec]) -> list[ResourceSpec]:
    """Those that need no other item, first those whose keys people can read."""
    alone = [
        spec
        for spec in resources.values()
        if not any(field.references and field.references.enforced for field in spec.fields)
    ]
    return sorted(alone, key=lambda spec: spec.key_is_made)


def _is_taken(spec: ResourceSpec, key: str, item: Mapping[str, Any]) -> bool:
    """Whether the API takes it: a pattern, or a function of the declaration, may refuse it."""
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
