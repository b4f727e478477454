"""Watch a sample of the created items: measure when readers can see them after acceptance.

Readers get rows from a replica, through lists. One list request covers hundreds of keys, so every
item is checked many times a second without disturbing the measurement.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loader.api import Api
from loader.posting import Accepted

_KEYS_AT_ONCE = 200  # they fit into one URL, and into one page
_PAUSE_SECONDS = 0.05  # between two checks


@dataclass(frozen=True, slots=True)
class Seen:
    """A watched command with a readable row."""

    command: Accepted
    #: From acceptance to the first answer that showed the row.
    seconds: float
    #: Since the previous check, or since acceptance: the maximum error of `seconds`.
    since_last_look_seconds: float


@dataclass(slots=True)
class Watch:
    """The sample: grows while commands are accepted, shrinks as their rows are seen."""

    api: Api
    #: Seconds after `close` at which the watch gives up.
    patience_seconds: float
    on_seen: Callable[[int], None]
    seen: list[Seen] = field(default_factory=list)
    #: Commands without a visible row, with the time of the last check.
    _pending: list[tuple[Accepted, float]] = field(default_factory=list)
    _deadline: float | None = None

    def add(self, command: Accepted) -> None:
        """Watch another command; its key has no row yet."""
        self._pending.append((command, command.at))

    def close(self) -> None:
        """Announce that there are no more commands, and start the patience."""
        self._deadline = time.monotonic() + self.patience_seconds

    async def run(self) -> None:
        """Return when the watch is closed and every row was seen, or the patience has run out.

        Raises:
            UnreachableError, RefusedError: the API does not return the list.
        """
        while not self._is_over():
            watched, self._pending = self._pending, []
            for part in _split_parts(watched):
                await self._look(part)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _look(self, watched: Sequence[tuple[Accepted, float]]) -> None:
        start = time.monotonic()
        visible = await self.api.visible_keys([command.item for command, _ in watched])
        now = time.monotonic()
        count = len(self.seen)
        for command, last_look in watched:
            if command.item.key in visible:
                self.seen.append(Seen(command, now - command.at, now - last_look))
            else:
                self._pending.append((command, start))
        self.on_seen(len(self.seen) - count)

    def _is_over(self) -> bool:
        if self._deadline is None:
            return False
        return not self._pending or time.monotonic() > self._deadline


def _split_parts(watched: Sequence[tuple[Accepted, float]]) -> list[list[tuple[Accepted, float]]]:
    """Split the commands by resource, and into parts small enough for one request."""
    by_resource: dict[str, list[tuple[Accepted, float]]] = {}
    for entry in watched:
        by_resource.setdefault(entry[0].item.resource, []).append(entry)
    return [
        entries[start : start + _KEYS_AT_ONCE]
        for entries in by_resource.values()
        for start in range(0, len(entries), _KEYS_AT_ONCE)
    ]
