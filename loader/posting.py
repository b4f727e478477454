"""Post every item in batches over a few connections until it is accepted or refused."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from loader.api import Api, Attempt
from loader.backoff import Backoff
from loader.data import Item

MAX_BATCH_ITEMS = 500  # the API's limit for one request


@dataclass(frozen=True, slots=True)
class Accepted:
    """A command: an item that the API accepted."""

    item: Item
    command_id: str
    #: Path of its status.
    status_path: str
    #: When the answer arrived, on `time.monotonic`'s clock.
    at: float
    #: An earlier attempt failed, but may have stored the item: another command of the loader,
    #: with an unknown id, may be the winner.
    doubtful: bool


@dataclass(slots=True)
class Posted:
    """The results of all items."""

    accepted: list[Accepted] = field(default_factory=list)
    #: Permanently refused items, each with the reason.
    refused: list[tuple[Item, str]] = field(default_factory=list)
    #: From the first request to the last answer.
    seconds: float = 0.0


async def post_all(
    api: Api,
    items: Sequence[Item],
    *,
    batch_items: int,
    connections: int,
    on_accepted: Callable[[Sequence[Accepted]], None],
) -> Posted:
    """Post all items until each is accepted or refused.

    Args:
        api: the API client.
        items: of any resources, in the order of sending.
        batch_items: the maximum of items per request.
        connections: the number of concurrent requests.
        on_accepted: called with the commands of each answer.

    Raises:
        UnreachableError, RefusedError: the API accepts no request for too long, or refuses one.
    """
    posted = Posted()
    waiting = _split_batches(items, batch_items)
    start = time.monotonic()

    async def work() -> None:
        for batch in waiting:
            await _post_batch(api, batch, posted, on_accepted)

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(work())
    posted.seconds = time.monotonic() - start
    return posted


def _split_batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    by_resource: dict[str, list[Item]] = {}
    for item in items:
        by_resource.setdefault(item.resource, []).append(item)
    for resource_items in by_resource.values():
        for start in range(0, len(resource_items), size):
            yield resource_items[start : start + size]


async def _post_batch(
    api: Api,
    batch: Sequence[Item],
    posted: Posted,
    on_accepted: Callable[[Sequence[Accepted]], None],
) -> None:
    backoff = Backoff(api.patience_seconds)
    pending, doubtful = list(batch), False
    while True:
        attempt = await api.post(pending)
        accepted, pending = _sort(attempt, pending, posted, doubtful=doubtful)
        posted.accepted += accepted
        on_accepted(accepted)
        if not pending:
            return
        if accepted:
            backoff.reset()
        api.repeated += 1
        doubtful = doubtful or attempt.may_have_worked
        await backoff.pause(attempt.reason, at_least_seconds=attempt.retry_after_seconds)


def _sort(
    attempt: Attempt, items: Sequence[Item], posted: Posted, *, doubtful: bool
) -> tuple[list[Accepted], list[Item]]:
    """Return the accepted commands and the items to send again; record the refused items."""
    now = time.monotonic()
    accepted: list[Accepted] = []
    remaining: list[Item] = []
    for item, result in zip(items, attempt.results, strict=True):
        if result.command_id is not None and result.status_path is not None:
            accepted.append(Accepted(item, result.command_id, result.status_path, now, doubtful))
        elif result.refusal is not None:
            posted.refused.append((item, result.refusal))
        else:
            remaining.append(item)
    return accepted, remaining
