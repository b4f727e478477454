"""Determine the final status of every command at the end of a load."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from loader.api import Api, Row
from loader.data import Item
from loader.posting import Accepted

_PAUSE_SECONDS = 0.2  # between two rounds of status requests

Keys = frozenset[tuple[str, int | str]]
#: Status by command id.
Statuses = dict[str, str]


async def find_present_keys(api: Api, items: Iterable[Item]) -> Keys:
    """Return the keys that have a row now, of all resources of the items."""
    keys = [
        (resource, row[key_name])
        for resource, key_name in _find_resources(items)
        async for row in api.rows(resource)
    ]
    return frozenset(keys)


async def find_statuses_in_lists(api: Api, commands: Sequence[Accepted], before: Keys) -> Statuses:
    """Determine statuses from whole lists; all commands must be creates.

    A key that had a row before the load keeps that row despite a create: superseded. A key that had
    no row, and has now a row equal to an item that was sent only once, shows our command: applied.
    All other commands remain undetermined.
    """
    rows: dict[tuple[str, int | str], Row] = {}
    for resource, key_name in _find_resources(command.item for command in commands):
        async for row in api.rows(resource):
            rows[resource, row[key_name]] = row
    statuses: Statuses = {}
    for command in commands:
        item = command.item
        visible_row = rows.get((item.resource, item.key))
        if visible_row is not None and (item.resource, item.key) in before:
            statuses[command.command_id] = "superseded"
        elif visible_row == item.body and not command.doubtful:
            statuses[command.command_id] = "applied"
    return statuses


async def ask_all(
    api: Api,
    commands: Collection[Accepted],
    *,
    connections: int,
    patience_seconds: float,
    on_known: Callable[[], None],
) -> Statuses:
    """Request each command's status until all are final or the patience has run out."""
    statuses: Statuses = {}
    deadline = time.monotonic() + patience_seconds
    pending = list(commands)
    while pending:
        waiting = iter(pending)

        async def work(waiting: Iterable[Accepted] = waiting) -> None:
            for command in waiting:
                status = await api.status(command.status_path)
                if status is not None:
                    statuses[command.command_id] = status
                    on_known()

        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(work())
        pending = [command for command in pending if command.command_id not in statuses]
        if not pending or time.monotonic() > deadline:
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    return statuses


def _find_resources(items: Iterable[Item]) -> list[tuple[str, str]]:
    """Return the distinct resources, each with the name of its key."""
    return sorted({(item.resource, item.key_name) for item in items})
