"""One load, from its first request to its report."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from loader import confirming, data
from loader.api import Api
from loader.confirming import Keys, Statuses
from loader.data import Item
from loader.errors import LoadError
from loader.posting import MAX_BATCH_ITEMS, Accepted, Posted, post_all
from loader.progress import Bars
from loader.report import Report, Spread
from loader.watching import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a load."""

    #: With the stage: `http://127.0.0.1:8080/v1`.
    base_url: str
    #: The number of cities; None for all.
    cities: int | None
    #: The maximum of items per request.
    batch_items: int = MAX_BATCH_ITEMS
    #: The number of concurrent requests, besides the request that watches.
    connections: int
    #: The number of commands that are watched until the replica shows them.
    sample: int
    #: Request the status of every command, instead of deriving it from whole lists.
    ask_all: bool
    #: How long one request may keep failing.
    patience_seconds: float = 60.0
    #: How long commands may stay invisible after the last acceptance.
    visible_patience_seconds: float = 120.0


async def load(options: Options, bars: Bars) -> Report:
    """Load the items, wait until all can be read, and report.

    Raises:
        UnreachableError: the API does not answer, or keeps failing for too long.
        RefusedError: the API refuses a whole request.
    """
    connector = aiohttp.TCPConnector(limit=options.connections + 1)  # one connection watches
    async with aiohttp.ClientSession(connector=connector) as session:
        api = Api(session, options.base_url, options.patience_seconds)
        try:
            return await _load(api, options, bars)
        except ExceptionGroup as group:
            raise _find_first_error(group) from group


async def _load(api: Api, options: Options, bars: Bars) -> Report:
    await api.check()
    items = [*data.read_countries(), *data.read_cities(options.cities)]
    keys_before = await confirming.find_present_keys(api, items)
    posted, watch = await _post_and_watch(api, items, keys_before, options, bars)
    watched = {sighting.command.command_id for sighting in watch.seen}
    statuses: Statuses = {}
    if not options.ask_all:
        unwatched = [command for command in posted.accepted if command.command_id not in watched]
        statuses = await confirming.find_statuses_in_lists(api, unwatched, keys_before)
        bars.add_confirmed(len(statuses))
    answers = await confirming.ask_all(
        api,
        _select_pending(posted.accepted, statuses),
        connections=options.connections,
        patience_seconds=options.visible_patience_seconds,
        on_known=bars.add_confirmed,
    )
    return _build_report(
        items,
        posted,
        watch,
        statuses | answers,
        request_count=len(answers),
        repeat_count=api.repeated,
    )


async def _post_and_watch(
    api: Api, items: Sequence[Item], keys_before: Keys, options: Options, bars: Bars
) -> tuple[Posted, Watch]:
    """Post all items while watching an evenly spread sample of the commands for new keys."""
    watch = Watch(api, options.visible_patience_seconds, bars.add_visible)
    new = sum((item.resource, item.key) not in keys_before for item in items)
    step = max(1, new // options.sample)
    bars.expect(items=len(items), watched=len(range(0, new, step)))
    count = 0

    def record_accepted(commands: Sequence[Accepted]) -> None:
        nonlocal count
        for command in commands:
            if (command.item.resource, command.item.key) in keys_before:
                continue
            if count % step == 0:
                watch.add(command)
            count += 1
        bars.add_accepted(len(commands))

    async with asyncio.TaskGroup() as group:
        group.create_task(watch.run())
        posted = await post_all(
            api,
            items,
            batch_items=options.batch_items,
            connections=options.connections,
            on_accepted=record_accepted,
        )
        watch.close()
    return posted, watch


def _select_pending(commands: Sequence[Accepted], statuses: Mapping[str, str]) -> list[Accepted]:
    return [command for command in commands if command.command_id not in statuses]


def _build_report(
    items: Sequence[Item],
    posted: Posted,
    watch: Watch,
    statuses: Statuses,
    *,
    request_count: int,
    repeat_count: int,
) -> Report:
    values = list(statuses.values())
    missing = _select_pending(posted.accepted, statuses)
    return Report(
        items=len(items),
        accepted=len(posted.accepted),
        refused=len(posted.refused),
        repeated=repeat_count,
        accepting_seconds=posted.seconds,
        accepted_per_second=len(posted.accepted) / posted.seconds if posted.seconds else 0.0,
        visible_seconds=Spread.of(
            # For other statuses, another client's command made the visible row.
            [
                sighting.seconds
                for sighting in watch.seen
                if statuses.get(sighting.command.command_id) == "applied"
            ]
        ),
        watched=len(watch.seen),
        look_seconds=Spread.of([sighting.since_last_look_seconds for sighting in watch.seen]),
        applied=values.count("applied"),
        superseded=values.count("superseded"),
        rejected=values.count("rejected"),
        missing=len(missing),
        asked=request_count,
        complaint=_find_complaint(posted, missing, statuses),
    )


def _find_complaint(posted: Posted, missing: Sequence[Accepted], statuses: Statuses) -> str | None:
    for item, reason in posted.refused:
        return f"refused, for example {item.resource} {item.key!r}: {reason}"
    for command in posted.accepted:
        if statuses.get(command.command_id) == "rejected":
            return f"rejected, for example {command.status_path}"
    for command in missing:
        return f"still pending, for example {command.status_path}"
    return None


def _find_first_error(group: ExceptionGroup[Exception]) -> Exception:
    """Return the error that ended the load, from the nested exception groups of its tasks."""
    load_errors = group.subgroup(LoadError)
    error: Exception = load_errors if load_errors is not None else group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
