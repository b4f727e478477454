"""Clients that write and read the same few keys concurrently, and record requests and answers."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from forebay.conditional import parse_version
from tests.fixtures.stack import new_city
from tests.history.checker import strength
from tests.history.operations import Operation

#: Names with this prefix are refused by the database alone; see `_faulty_names_are_refused`.
FAULTY = "Faulty"
_PATIENCE_SECONDS = 12.0  # shorter than the API's time-out, so that some writes stay open
_PAUSE_SECONDS = 0.1  # maximum between two operations of a client
_NEVER_ANSWERED = 0
_BATCH = 3

Answer = tuple[int, Mapping[str, str], Any]
Action = Callable[[], Awaitable[None]]


@dataclass
class Recorder:
    """The operations of all clients of a run."""

    history: list[Operation] = field(default_factory=list)

    def acknowledged(self) -> list[Operation]:
        return [operation for operation in self.history if operation.is_acknowledged]


@dataclass
class Someone:
    """A client that sends one request at a time."""

    name: str
    session: aiohttp.ClientSession
    base_url: str
    keys: list[str]
    recorder: Recorder
    chance: random.Random
    #: The newest known version of each key.
    seen: dict[str, str] = field(default_factory=dict)
    #: The entity tag of each item's last read, by the item's path.
    tags: dict[str, str] = field(default_factory=dict)
    #: Its own writes, as far as it may request their statuses.
    own: list[Operation] = field(default_factory=list)
    _count: int = 0

    async def work(self, until: float) -> None:
        """Perform random operations until the given time."""
        actions = self.actions()
        weights, things = [weight for weight, _ in actions], [thing for _, thing in actions]
        while time.monotonic() < until:
            (thing,) = self.chance.choices(things, weights)
            await thing()
            await asyncio.sleep(self.chance.uniform(0, _PAUSE_SECONDS))

    def actions(self) -> list[tuple[int, Action]]:
        """Weights, and what the client does."""
        return [
            (30, self.put),
            (7, self.put_faulty),
            (7, self.create),
            (8, self.delete),
            (4, self.put_invalid),
            (4, self.batch),
            (5, self.announce),
            (30, self.read_after),
            (8, self.read),
            (5, self.list),
            (12, self.ask),
        ]

    # Writes

    async def put(self) -> None:
        await self._write("put", self._city())

    async def put_faulty(self) -> None:
        await self._write("put", self._city(FAULTY), faulty=True)

    async def put_invalid(self) -> None:
        """Send a put that the API refuses, so that no read may return it."""
        await self._write("put", {**self._city(), "population": -1})

    async def create(self) -> None:
        await self._write("create", self._city(), {"If-None-Match": "*"})

    async def delete(self) -> None:
        await self._write("delete", None)

    async def batch(self) -> None:
        """Create several keys in a request; one item has a fault."""
        cities = [self._city(key=key) for key in self.chance.sample(self.keys, _BATCH)]
        cities[-1]["latitude"] = 91.0
        began = time.monotonic()
        status, _, answer = await self._ask("POST", "/cities", cities)
        results = answer["results"] if status == 207 else [{}] * _BATCH
        for city, result in zip(cities, results, strict=True):
            self._note(
                "create",
                str(city["geonameid"]),
                began,
                status=result.get("status", status),
                code=result.get("problem", {}).get("code"),
                sent=city,
                command_id=result.get("command_id"),
            )

    async def announce(self) -> None:
        """Send a POST without a key, repeated as if the answer had been lost."""
        self._count += 1
        title = f"{self.name} announces {self._count}"
        sent = {"title": title, "body": "Text.", "published_on": "2026-11-21", "pinned": True}
        headers = {"Idempotency-Key": f'"{title}"'}
        for _ in range(self.chance.choice([1, 2, 3])):
            began = time.monotonic()
            status, _, answer = await self._ask("POST", "/announcements", sent, headers)
            noted = self._note(
                "create",
                answer.get("key"),
                began,
                resource="announcements",
                status=status,
                code=answer.get("code"),
                idempotency_key=title,
                sent=sent,
                command_id=answer.get("command_id"),
            )
            if noted.is_acknowledged:
                await self._read("announcements", str(noted.key), noted.command_id)

    async def _write(
        self,
        kind: str,
        city: dict[str, Any] | None,
        headers: Mapping[str, str] | None = None,
        *,
        faulty: bool = False,
    ) -> None:
        key = str(city["geonameid"]) if city else self.chance.choice(self.keys)
        sent_headers = dict(headers or {})
        known = self.seen.get(key)
        # A create has no condition.
        shown = self.chance.choice(
            ["Read-After" if kind == "create" else "If-Match", "Read-After", None]
        )
        if known and shown:
            tag = self.tags.get(f"cities/{key}", "")
            sent_headers[shown] = tag if parse_version(tag) == known else known
        method = "DELETE" if city is None else "PUT"
        began = time.monotonic()
        status, _, answer = await self._ask(method, f"/cities/{key}", city, sent_headers)
        noted = self._note(
            kind,
            key,
            began,
            status=status,
            code=answer.get("code"),
            sent=city,
            faulty=faulty,
            command_id=answer.get("command_id"),
            if_match=known if "If-Match" in sent_headers else None,
            read_after=known if "Read-After" in sent_headers else None,
        )
        if noted.is_acknowledged:
            self.own.append(noted)
            if not (faulty or noted.is_conditional):
                self._saw(key, str(noted.command_id))

    # Reads

    async def read_after(self) -> None:
        key = self.chance.choice(self.keys)
        rejected = [one for one in self.own if one.faulty and one.key == key]
        after = self.seen.get(key)
        if rejected and self.chance.random() < 0.2:
            after = rejected[-1].command_id
        await self._read("cities", key, after)

    async def read(self) -> None:
        await self._read("cities", self.chance.choice(self.keys), None)

    async def list(self) -> None:
        """Request a list, which has no versions, with a unique query that no cache can answer."""
        keys = self.chance.sample(self.keys, len(self.keys) // 2)
        self._count += 1
        nobody = f"name=neq.{self.name}-{self._count}"
        began = time.monotonic()
        query = f"/cities?geonameid=in.({','.join(keys)})&{nobody}"
        status, _, rows = await self._ask("GET", query)
        for row in rows if status == 200 else []:
            self._note("read", str(row["geonameid"]), began, status=status, got=row)

    async def ask(self) -> None:
        if self.own:
            await self.ask_for(self.chance.choice(self.own))

    async def ask_for(self, write: Operation, *, wait_seconds: int = 0) -> None:
        """Request the status of a command."""
        began = time.monotonic()
        headers = {"Prefer": f"wait={wait_seconds}"} if wait_seconds else {}
        path = f"/{write.resource}/{write.key}/commands/{write.command_id}"
        status, _, answer = await self._ask("GET", path, None, headers)
        self._note(
            "status",
            str(write.key),
            began,
            resource=write.resource,
            status=status,
            command_id=write.command_id,
            fate=answer.get("status") if status in (200, 202) else None,
            superseded_by=answer.get("superseded_by"),
        )

    async def read_all_keys(self) -> None:
        """Read each key once, after the newest version that this client knows."""
        for key in self.keys:
            await self._read("cities", key, self.seen.get(key))

    async def _read(self, resource: str, key: str, after: str | None) -> Operation:
        tag = self.tags.get(f"{resource}/{key}")
        headers = {"Read-After": after} if after else {}
        if tag and self.chance.random() < 0.2:
            headers["If-None-Match"] = tag
        began = time.monotonic()
        status, answer, got = await self._ask("GET", f"/{resource}/{key}", None, headers)
        tag = answer.get("ETag", "")
        version = parse_version(tag)
        if version:
            self.tags[f"{resource}/{key}"] = tag
        noted = self._note(
            "read",
            key,
            began,
            resource=resource,
            status=status,
            code=got.get("code") if status >= 400 else None,
            read_after=after,
            version=version if status in (200, 304) else None,
            shown_tag=tag if status == 200 and version else None,
            got=got if status == 200 else None,
        )
        if after and version and status in (200, 304) and resource == "cities":
            self._saw(key, version)
        return noted

    # Helpers

    def _saw(self, key: str, version: str) -> None:
        known = self.seen.get(key)
        if known is None or strength(known) < strength(version):
            self.seen[key] = version

    def _city(self, kind: str = "City", key: str | None = None) -> dict[str, Any]:
        """A city with a name that no other write uses."""
        self._count += 1
        chosen = int(key or self.chance.choice(self.keys))
        return new_city(geonameid=chosen, name=f"{kind} {self.name}-{self._count}")

    def _note(self, kind: Any, key: str | None, began: float, **said: Any) -> Operation:
        noted = Operation(
            client=self.name,
            kind=kind,
            resource=said.pop("resource", "cities"),
            key=key,
            began=began,
            ended=time.monotonic(),
            **said,
        )
        self.recorder.history.append(noted)
        return noted

    async def _ask(
        self, method: str, path: str, content: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request; return status, headers and body, or status 0 without an answer."""
        body = None if content is None else orjson.dumps(content)
        named = {**({"Content-Type": "application/json"} if body else {}), **(headers or {})}
        try:
            async with self.session.request(
                method, f"{self.base_url}{path}", data=body, headers=named
            ) as answer:
                text = await answer.read()
                return answer.status, answer.headers, orjson.loads(text) if text else {}
        except (aiohttp.ClientError, TimeoutError, OSError):
            return _NEVER_ANSWERED, {}, {}


def new_session() -> aiohttp.ClientSession:
    """A session that never repeats a request; aiohttp would do so on a kept connection."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, limit=0),
        timeout=aiohttp.ClientTimeout(total=_PATIENCE_SECONDS),
    )
