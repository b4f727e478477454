"""A recorded run: clients work under faults, then everything settles and is checked."""

import asyncio
import gzip
import json
import os
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import psycopg

from forebay.codec import decode
from forebay.command import Command
from forebay.ids import make_id_at
from local.settings import ROOT
from tests.fixtures.faulty import FaultyStack
from tests.fixtures.gateway import Client
from tests.fixtures.stack import new_city
from tests.history.checker import check
from tests.history.clients import FAULTY, Recorder, Someone, new_session
from tests.history.editors import Editor
from tests.history.hazards import Hazards
from tests.history.operations import (
    Edited,
    Edits,
    Final,
    Operation,
    Place,
    Row,
    write_history,
)
from tests.history.violations import Violation

_KEYS = 10
#: Keys that editors change: by all operations, and by patches only.
_EDITED_KEYS = 3
_COUNTERS = 2
_SETTLING_SECONDS = 180.0
#: The write function's time-out: an older request can't have an effect any more.
_LONGEST_WRITE_SECONDS = 25.0
_ASKING_AT_ONCE = 8
#: Folder of the recorded runs; a run can't be reproduced exactly by its seed.
_FOLDER = Path(os.environ.get("FOREBAY_HISTORY", ROOT / ".build" / "history"))
_TABLES = {"cities": "geonameid", "announcements": "id"}


@dataclass(frozen=True, slots=True)
class Checked:
    """A run with its violations."""

    history: list[Operation]
    final: Final
    violations: list[Violation]
    #: True if `forebay verify` found that archive and database agree.
    verified: bool
    hazards: int
    #: Dead letters that were moved back to the queue, as an operator would do.
    dead_letters: int
    file: Path

    @property
    def passed(self) -> int:
        """Decided commands of the keys with patches that passed."""
        return len(self.final.edits.passed)

    @property
    def failed(self) -> int:
        """Decided commands of the keys with patches that failed."""
        archived = {members["id"] for members in self.final.edits.archived}
        return len(archived & self.final.rejected)

    def summary(self) -> dict[str, Any]:
        """The numbers of the run."""
        writes = [one for one in self.history if one.is_write]
        return {
            "operations": len(self.history),
            "writes": len(writes),
            "acknowledged": sum(one.is_acknowledged for one in writes),
            "patches": sum(one.kind == "patch" and one.is_acknowledged for one in writes),
            "decided": self.passed + self.failed,
            "passed": self.passed,
            "open": sum(one.is_open for one in writes),
            "refused": sum(one.is_refused for one in writes),
            "reads": sum(one.kind == "read" for one in self.history),
            "reads_with_read_after": sum(
                one.kind == "read" and one.read_after is not None for one in self.history
            ),
            "statuses": sum(one.kind == "status" for one in self.history),
            "answers": dict(sorted(Counter(str(one.status) for one in self.history).items())),
            "hazards": self.hazards,
            "dead_letters": self.dead_letters,
            "violations": len(self.violations),
            "verified": self.verified,
        }


def run(stack: FaultyStack, *, seconds: float, seed: int, clients: int) -> Checked:
    """Run clients on a failing stack, and check their observations.

    Args:
        stack: the running stack; its faults are reverted at the end.
        seconds: how long clients work and faults happen.
        seed: seed of all random choices.
        clients: number of concurrent clients; every second also has an editor.
    """
    # Writes of before may still be on their way.
    first_id = make_id_at(time.time_ns() // 1_000_000, create=False)
    objects = set(stack.keys())
    keys, edited, counters = (
        [str(new_city()["geonameid"]) for _ in range(count)]
        for count in (_KEYS, _EDITED_KEYS, _COUNTERS)
    )
    recorder = Recorder()
    hazards = Hazards(stack, seed)
    _faulty_names_are_refused(stack)
    try:
        group = _Group(stack, keys, edited, counters, recorder, seed, clients)
        people = asyncio.run(_work(group, hazards, seconds))
        dead_letters = _settle(stack, recorder)
        at = time.monotonic()
        edits = _edits(stack, {*edited, *counters}, objects)
        final = _final(stack, first_id, at, edits)
        asyncio.run(_ask_everything(people, recorder))
    finally:
        _faulty_names_are_refused(stack, refused=False)
    _FOLDER.mkdir(parents=True, exist_ok=True)
    file = _FOLDER / f"seed-{seed}.ndjson"
    write_history(file, recorder.history, final)
    file.with_suffix(".hazards.json").write_text(json.dumps(hazards.log, indent=0))
    violations = check(recorder.history, final)
    verified = stack.verify()
    return Checked(
        recorder.history, final, violations, verified, len(hazards.log), dead_letters, file
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """What the clients of a run have in common."""

    stack: FaultyStack
    keys: list[str]
    #: Keys that editors change: by all operations, and by patches only.
    edited: list[str]
    counters: list[str]
    recorder: Recorder
    seed: int
    clients: int

    def make(self, session: aiohttp.ClientSession) -> list[Someone]:
        """The clients; half as many are editors besides."""
        url, chance = self.stack.settings.base_url, random.Random
        people = [
            Someone(
                f"client-{self.seed}-{number}",
                session,
                url,
                self.keys,
                self.recorder,
                chance(self.seed * 1000 + number),
            )
            for number in range(self.clients)
        ]
        editors = [
            Editor(
                f"editor-{self.seed}-{number}",
                session,
                url,
                self.edited,
                self.recorder,
                chance(self.seed * 1000 + 500 + number),
                counters=self.counters,
            )
            for number in range(self.clients // 2)
        ]
        return [*people, *editors]


async def _work(group: _Group, hazards: Hazards, seconds: float) -> list[Someone]:
    async with new_session() as session:
        people = group.make(session)
        (editor,) = [someone for someone in people if isinstance(someone, Editor)][:1]
        await editor.make_counters()
        until = time.monotonic() + seconds
        everybody = asyncio.gather(*(someone.work(until) for someone in people))
        raging = hazards.raging()
        await asyncio.to_thread(raging.__enter__)
        try:
            await everybody
        finally:
            await asyncio.to_thread(raging.__exit__, None, None, None)
    return people


async def _ask_everything(people: list[Someone], recorder: Recorder) -> None:
    """Request the status of every accepted command, and read every key as each client."""
    writes = recorder.acknowledged()
    async with new_session() as session:
        for someone in people:
            someone.session = session
        turns = asyncio.Semaphore(_ASKING_AT_ONCE)

        async def ask(someone: Someone, write: Operation) -> None:
            async with turns:
                # A patch without an item may wait for ever.
                await someone.ask_for(write, wait_seconds=1 if write.kind == "patch" else 5)

        # Concurrent requests, each on behalf of a client.
        await asyncio.gather(
            *(ask(people[number % len(people)], write) for number, write in enumerate(writes))
        )
        await asyncio.gather(*(someone.read_all_keys() for someone in people))


def _settle(stack: FaultyStack, recorder: Recorder) -> int:
    """Wait until no effects are outstanding and the whole archive is applied, or for a time-out.

    Dead letters are moved back to the queue, as their runbook prescribes.

    Returns:
        The number of messages moved.
    """
    moved = 0
    last = max((one.began for one in recorder.history if one.is_open), default=0.0)
    time.sleep(max(0.0, last + _LONGEST_WRITE_SECONDS - time.monotonic()))
    deadline = time.monotonic() + _SETTLING_SECONDS
    quiet = 0
    while time.monotonic() < deadline and quiet < 3:
        dead = stack.dead_letters()
        if dead:
            moved += dead
            _redrive(stack)
        query = "SELECT object FROM forebay.ledger WHERE completed_at IS NOT NULL"
        applied = {key for (key,) in stack.as_superuser(query)}
        done = _delivered(stack) and set(stack.keys()) <= applied
        quiet = quiet + 1 if done else 0
        time.sleep(0.5)
    return moved


def _delivered(stack: FaultyStack) -> bool:
    firehose = Client(stack.settings.ports.firehose)
    return firehose.request("POST", "/_flush?timeout=5").status == 200


def _redrive(stack: FaultyStack) -> None:
    queue = stack.deployed
    while True:
        response = stack.sqs.receive_message(
            QueueUrl=queue.dead_letter_queue_url, MaxNumberOfMessages=10
        ).get("Messages", [])
        if not response:
            return
        for message in response:
            stack.sqs.send_message(QueueUrl=queue.queue_url, MessageBody=message["Body"])
            stack.sqs.delete_message(
                QueueUrl=queue.dead_letter_queue_url, ReceiptHandle=message["ReceiptHandle"]
            )


def _faulty_names_are_refused(stack: FaultyStack, *, refused: bool = True) -> None:
    """Make the database refuse names that the API accepts, by an undeclared constraint."""
    stack.as_superuser("ALTER TABLE cities DROP CONSTRAINT IF EXISTS no_faulty_names")
    if refused:
        stack.as_superuser(
            "ALTER TABLE cities ADD CONSTRAINT no_faulty_names "
            f"CHECK (name NOT LIKE '{FAULTY} %') NOT VALID"
        )


def _final(stack: FaultyStack, first_id: str, at: float, edits: Edits) -> Final:
    """The state of the primary, limited to this run's commands of keys without patches."""
    rejected = stack.as_superuser("SELECT id::text FROM forebay.rejections")
    return Final(
        rows={
            place: row
            for place, row in _places(stack)
            if row.version >= first_id and place not in edits.keys
        },
        tombstones={
            place: version
            for place, version in _tombstones(stack).items()
            if version >= first_id and place not in edits.keys
        },
        rejected=frozenset(str(command_id) for (command_id,) in rejected),
        at=at,
        edits=edits,
    )


def _edits(stack: FaultyStack, keys: set[str], old: set[str]) -> Edits:
    """The state of keys with patches, and their commands in the archive's new objects."""
    rows = {key: row for (resource, key), row in _places(stack) if resource == "cities"}
    tombstones = _tombstones(stack)
    query = "SELECT key, fields FROM forebay.edits WHERE resource = 'cities'"
    fields = dict(stack.as_superuser(query))
    passed = stack.as_superuser("SELECT id::text, effective_id::text, body FROM forebay.effects")
    archived = _archived(stack, keys, old)
    ids = {command.id for command in archived}
    return Edits(
        {("cities", key): _edited(key, rows, tombstones, fields) for key in keys},
        [command._asdict() for command in archived],
        {one: (place, body) for one, place, body in passed if one in ids},
    )


def _edited(
    key: str,
    rows: Mapping[str, Row],
    tombstones: Mapping[Place, str],
    fields: Mapping[str, Mapping[str, str]],
) -> Edited:
    row = rows.get(key)
    hidden = {"geonameid", "_version", "_by_create"}
    values = (
        {name: value for name, value in row.body.items() if name not in hidden} if row else None
    )
    base = row.version if row else None
    return Edited(values, base, tombstones.get(("cities", key)), fields.get(key, {}))


def _archived(stack: FaultyStack, keys: set[str], old: set[str]) -> list[Command]:
    """The commands of these keys in the archive's objects, each once, without the old objects."""
    commands: dict[str, Command] = {}
    for name in set(stack.keys()) - old:
        answer = stack.s3.get_object(Bucket=stack.deployed.archive_bucket, Key=name)
        for line in gzip.decompress(answer["Body"].read()).splitlines():
            command = decode(line)
            if command.resource == "cities" and str(command.key) in keys:
                commands[command.id] = command
    return list(commands.values())


def _tombstones(stack: FaultyStack) -> dict[Place, str]:
    rows = stack.as_superuser("SELECT resource, key, version::text FROM forebay.tombstones")
    return {(str(resource), str(key)): str(version) for resource, key, version in rows}


def _places(stack: FaultyStack) -> list[tuple[Place, Row]]:
    places = []
    with psycopg.connect(stack.primary_url, autocommit=True) as connection:
        for resource, key in _TABLES.items():
            query = f"SELECT {key}::text, _version::text, to_jsonb({resource}) FROM {resource}"
            for name, version, body in connection.execute(query.encode()):
                places.append(((resource, str(name)), Row(version, cast("dict[str, Any]", body))))
    return places
