"""Clients that change the same few keys by patches, conditions and increments, and record all."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from forebay.conditional import parse_version
from tests.history.clients import Action, Someone
from tests.history.edits import COUNTER, INCREMENT
from tests.history.operations import Operation

_MOST_TAKEN = 3


@dataclass
class Editor(Someone):
    """A client that sends one request at a time.

    `keys` are written by all operations. `counters` are made once, and then only patched, so that
    the final count must be the sum of the commands that passed.
    """

    counters: list[str] = field(default_factory=list)
    #: The last item read of each key, with its tag.
    items: dict[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)

    def actions(self) -> list[tuple[int, Action]]:
        """Weights, and what the client does."""
        return [
            (6, self.put),
            (3, self.create),
            (4, self.delete),
            (14, self.patch),
            (12, self.patch_if_match),
            (10, self.patch_if_equal),
            (14, self.increment),
            (14, self.compare_and_set),
            (12, self.look),
            (8, self.ask),
        ]

    async def make_counters(self) -> None:
        """Make the counters; call this once, while there are no faults."""
        for key in self.counters:
            # A small number, so that some increments fail.
            counter = {**self._city("Counter", key), COUNTER: _MOST_TAKEN}
            made = await self._edit("put", key, counter, method="PUT")
            assert made.is_acknowledged, made

    async def put(self) -> None:
        key = self.chance.choice(self.keys)
        await self._edit("put", key, self._city("Put", key), method="PUT")

    async def create(self) -> None:
        key, headers = self.chance.choice(self.keys), {"If-None-Match": "*"}
        await self._edit("create", key, self._city("Create", key), headers, method="PUT")

    async def delete(self) -> None:
        await self._edit("delete", self.chance.choice(self.keys), None, method="DELETE")

    async def patch(self) -> None:
        await self._edit("patch", self._any_key(), self._texts())

    async def patch_if_match(self) -> None:
        """Patch an item if it is as this client last saw it."""
        key = self._any_key()
        if key in self.items:
            tag, _ = self.items[key]
            await self._edit("patch", key, self._texts(), tag=tag)

    async def patch_if_equal(self) -> None:
        """Patch an item if its name is as this client last saw it."""
        key = self._any_key()
        if key in self.items:
            _, item = self.items[key]
            await self._edit("patch", key, self._texts(), where={"name": item["name"]})

    async def increment(self) -> None:
        by = self.chance.choice([1, 1, 2, -1, -_MOST_TAKEN])
        key = self.chance.choice(self.counters)
        await self._edit("patch", key, {COUNTER: {INCREMENT: by}})

    async def compare_and_set(self) -> None:
        """Read a counter, add 1, and write it if the counter is as it was read."""
        key = self.chance.choice(self.counters)
        if await self._look_at(key):
            tag, item = self.items[key]
            await self._edit("patch", key, {COUNTER: item[COUNTER] + 1}, tag=tag)

    async def look(self) -> None:
        await self._look_at(self._any_key())

    async def read_all_keys(self) -> None:
        for key in [*self.keys, *self.counters]:
            await self._look_at(key)

    async def _look_at(self, key: str) -> bool:
        """Read an item; return whether the answer had it."""
        read = await self._read("cities", key, self.seen.get(key))
        if read.got is None or read.shown_tag is None:
            return False
        self.items[key] = (read.shown_tag, read.got)
        return True

    async def _edit(
        self,
        kind: Literal["put", "create", "patch", "delete"],
        key: str,
        sent: dict[str, Any] | None,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "PATCH",
        tag: str | None = None,
        where: Mapping[str, str] | None = None,
    ) -> Operation:
        path = f"/cities/{key}"
        if where:
            filters = "".join(f"&{name}=eq.{quote(value)}" for name, value in where.items())
            path = f"/cities?geonameid=eq.{key}{filters}"
        began = time.monotonic()
        condition = {"If-Match": tag} if tag else {}
        status, _, answer = await self._ask(method, path, sent, {**(headers or {}), **condition})
        noted = self._note(
            kind,
            key,
            began,
            status=status,
            code=answer.get("code"),
            sent=sent,
            command_id=answer.get("command_id"),
            if_match=parse_version(tag) if tag else None,
            tag=tag,
            where=where,
        )
        if noted.is_acknowledged:
            self.own.append(noted)
            self.seen[key] = str(noted.command_id)
        return noted

    def _any_key(self) -> str:
        return self.chance.choice([*self.keys, *self.counters])

    def _texts(self) -> dict[str, Any]:
        """A body with one or two texts that no other write uses."""
        self._count += 1
        name, zone = f"Patch {self.name}-{self._count}", f"Zone/{self.name}-{self._count}"
        return self.chance.choice(
            [{"name": name}, {"timezone": zone}, {"name": name, "timezone": zone}]
        )
