"""The step that writes: it creates one item, waits for its status, and deletes it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from forebay.errors import SettingsError
from infra.preflight.findings import Finding, State
from infra.smoke.client import SmokeClient

#: How long a command may be pending; the first one may wake a database that pauses.
DEADLINE_SECONDS: Final = 180
_ACCEPTED = 202
_MISSING = 404
_PAUSE_SECONDS = 1.0

Item = Mapping[str, Any]


def choose_item(
    description: Mapping[str, Any], name: str, given: Item | None
) -> tuple[str | None, Item]:
    """The item to create, and its key; None for a key that the server makes.

    Raises:
        SettingsError: there is no such resource, or its keys are natural and no item is given.
    """
    post = description.get("paths", {}).get(f"/{name}", {}).get("post")
    if post is None:
        raise SettingsError(f"WRITE={name}: the API has no resource {name!r} that takes POST")
    key_field = _find_key_field(description, name)
    if given is not None:
        if key_field is not None and key_field not in given:
            raise SettingsError(f"ITEM must contain the key {key_field!r} of {name}")
        return None if key_field is None else str(given[key_field]), given
    examples = post["requestBody"]["content"]["application/json"].get("examples", {})
    example: Item | None = examples.get("one", {}).get("value")
    if key_field is not None or example is None:
        needed = f", with a key {key_field!r} that no client will ever use" if key_field else ""
        raise SettingsError(
            f"WRITE={name} needs an item{needed}, for example "
            f"ITEM='{json.dumps(example or {})}'; a deleted key takes no POST any more"
        )
    return None, example


def _find_key_field(description: Mapping[str, Any], name: str) -> str | None:
    """The member of a POST that is not one of a PUT; None if the server makes the keys."""
    paths = description["paths"]
    posted = _read_properties(description, paths[f"/{name}"]["post"])
    put = _read_properties(description, paths[f"/{name}/{{key}}"]["put"])
    return next(iter(sorted(posted - put)), None)


def _read_properties(description: Mapping[str, Any], operation: Mapping[str, Any]) -> set[str]:
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    for one in (schema, *schema.get("oneOf", ())):
        reference = one.get("$ref", "")
        if reference:
            return set(description["components"]["schemas"][reference.split("/")[-1]]["properties"])
    return set(schema.get("properties", ()))


def write_and_delete(
    client: SmokeClient, name: str, key: str | None, item: Item
) -> Iterator[Finding]:
    """Create an item, follow its status until it is applied, and delete it in any case."""
    if key is not None:
        before = client.send("GET", f"/{name}/{quote(key, safe='')}")
        if before.status != _MISSING:
            detail = f"the item exists, or can't be read: {before.describe()}; nothing is written"
            next_step = "choose a key that no client uses"
            yield Finding(State.WILL_FAIL, "write", f"/{name}/{key}", detail, next_step)
            return
    created = client.send("POST", f"/{name}", content=item)
    if created.status != _ACCEPTED:
        next_step = f"pass credentials with the scope {name}.write, or correct ITEM"
        yield Finding(State.WILL_FAIL, "write", f"/{name}", created.describe(), next_step)
        return
    # The links contain the stage; behind a domain, only the part below it is used.
    path = f"/{name}/{quote(str(created.read_json()['key']), safe='')}"
    command = created.read_json()["command_id"]
    try:
        yield from _follow(client, path, command, "applied")
    finally:
        deleted = client.send("DELETE", path)
    if deleted.status != _ACCEPTED:
        next_step = f"delete {path} by hand"
        yield Finding(State.WILL_FAIL, "delete", path, deleted.describe(), next_step)
        return
    yield from _follow(client, path, deleted.read_json()["command_id"], "deleted")


def _follow(client: SmokeClient, path: str, command: str, action: str) -> Iterator[Finding]:
    check = "write" if action == "applied" else "delete"
    started = time.monotonic()
    status = _wait(client, f"{path}/commands/{command}", started)
    seconds = time.monotonic() - started
    if status == "applied":
        yield Finding(State.OK, check, path, f"{action} after {seconds:.1f} s")
    elif status == "pending":
        detail = f"pending after {seconds:.0f} s"
        next_step = "docs/runbooks: the alarms delivery-stalled and apply-behind"
        yield Finding(State.WILL_FAIL, check, path, detail, next_step)
    else:
        next_step = f"GET {path}/commands/{command} has the reason"
        yield Finding(State.WILL_FAIL, check, path, f"the command is {status}", next_step)


def _wait(client: SmokeClient, path: str, started: float) -> str:
    while True:
        answer = client.send("GET", path, headers={"Prefer": "wait=10"})
        document = answer.read_json()
        known = answer.status == 200 and isinstance(document, dict)  # noqa: PLR2004 - OK
        status = str(document["status"]) if known else "pending"
        if status != "pending" or time.monotonic() - started > DEADLINE_SECONDS:
            return status
        time.sleep(_PAUSE_SECONDS)
