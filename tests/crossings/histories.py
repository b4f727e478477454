"""A history: phases in which consumers, imports and an operator run concurrently.

The checks run between phases, and at the end when everything is applied. The seed determines every
draw. `HistoryFailedError` reports the seed, the steps and the last points.
"""

from __future__ import annotations

import datetime as dt
import gzip
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg

from forebay.codec import decode
from forebay.errors import InvalidLineError
from forebay.ids import accepted_ms
from forebay.replay.selection import Selection
from ops.exit_codes import ExitCode
from tests.crossings import checks
from tests.crossings.checks import ViolationError
from tests.crossings.commands import STEP, THINGS, Draw, accepted_at
from tests.crossings.databases import Database, Dump, widening
from tests.crossings.processes import (
    SCRATCH_OPERATOR,
    ConsumerProcess,
    Operator,
    Queue,
    World,
    run_import,
)
from tests.crossings.releases import LAST, RELEASES, WIDE
from tests.crossings.s3 import BUCKET, FakeS3
from tests.crossings.scheduler import Chances, CrashedError, Fault, Scheduler

_CONSUMER_FAULTS: tuple[Fault, ...] = ("crash", "crash", "cut", "lost")
_OPERATOR_FAULTS: tuple[Fault, ...] = ("crash",)
_SHOWN_POINTS = 120
#: Exit codes of the command line that are not defects.
_ENDINGS = frozenset({-9, 0, 1, 3, 4, 5})


class HistoryFailedError(AssertionError):
    """A history that violates a law."""


@dataclass
class Arena:
    """Shared by the histories of a test: two databases and a superuser's connection."""

    live: Database
    scratch: Database
    monitor: psycopg.Connection[Any]


@dataclass
class History:
    """A history in progress."""

    world: World
    draw: Draw
    random: random.Random
    steps: list[str] = field(default_factory=list)
    release: int = 1
    backup: Dump | None = None
    is_outdated: bool = False
    #: Lines to be delivered in a later phase.
    late: list[bytes] = field(default_factory=list)
    _errors: list[BaseException] = field(default_factory=list)
    _last_facts: dict[str, Any] = field(default_factory=dict)
    _objects: int = 0
    _consumers: dict[int, ConsumerProcess] = field(default_factory=dict)
    _scratch_is_used: bool = False

    @property
    def operator(self) -> Operator:
        """An operator with the code of the current release."""
        return Operator(self.world, RELEASES[self.release])

    def note(self, step: str) -> None:
        """Record a step for the report."""
        self.steps.append(step)
        self.world.scheduler.trace.append(f"-- {step}")

    # Steps

    def deliver(self, lines: list[bytes], *, times: int = 1, name: str = "") -> str:
        """Write a command object, and send its events."""
        self._objects += 1
        hour = min(filter(None, map(_accepted, lines)), default=accepted_at(0))
        key = f"commands/{hour:%Y/%m/%d/%H}/{name or 'stream'}-{self._objects:03d}.gz"
        self.world.s3.put_object(
            Bucket=BUCKET, Key=key, Body=gzip.compress(b"".join(lines), mtime=0), writer="firehose"
        )
        for _ in range(times):
            self.world.queue.send_object(key)
        shown = ", ".join(map(_shown_line, lines))
        self.note(f"object {key} ({times} events): {shown}")
        return key

    def run(
        self,
        consumers: int,
        *actions: Callable[[], None],
        imports: tuple[str, ...] = (),
        faults: tuple[Fault, ...] = _CONSUMER_FAULTS,
    ) -> None:
        """Run consumers and imports, and the operator's actions concurrently, until all end."""
        processes = [self._consumer(number) for number in range(consumers)]
        threads = [
            threading.Thread(target=self._guarded, args=[process.consume, faults], name="main")
            for process in processes
        ]
        threads += [
            threading.Thread(target=self._guarded, args=[self._import, key], name="main")
            for key in imports
        ]
        errors = self._errors
        for thread in threads:
            thread.start()
        try:
            for action in actions:
                action()
        except BaseException as exc:  # noqa: BLE001 - raised when the threads have ended
            errors.append(exc)
        for thread in threads:
            thread.join()
        if errors:
            raise errors.pop(0)

    def new_release(self, release: int) -> None:
        """Deploy a release: the consumers get new instances."""
        if release != self.release:
            self.note(f"release {release} is deployed")
            self._consumers.clear()
        self.release = self.draw.release = release
        self.draw.has_used_release_2 |= release == 2

    def check(self) -> None:
        """Check the invariants that hold at any time."""
        checks.check_archive(self.world.s3)
        checks.check_writers(self.world.s3, SCRATCH_OPERATOR)
        checks.check_outcomes(self.world.live, "live", self.world.s3)
        checks.check_reasons(self.world.live, "live", self.draw)

    def call(
        self,
        *arguments: str,
        database: Database | None = None,
        release: int | None = None,
        faults: tuple[Fault, ...] = _OPERATOR_FAULTS,
    ) -> int:
        """Call the command line; return its exit code."""
        self.draw.has_used_release_2 |= release == 2
        where = " in the scratch database" if database is self.world.scratch else ""
        with_release = f" with release {release}" if release else ""
        self.note(f"forebay {' '.join(arguments)}{where}{with_release}")
        result = self.operator.run(
            *arguments,
            database=database,
            release=RELEASES[release] if release else None,
            faults=faults,
        )
        self.note(f"... ends with {result.code} {result.err.strip()[-300:]}")
        if result.code not in _ENDINGS:
            raise ViolationError(f"forebay {arguments} ended with {result.code}: {result.err}")
        self._last_facts = result.facts
        return result.code

    # Drawn phases

    def phase(self) -> None:
        """Run a phase with randomly drawn objects, imports and actions."""
        chance = self.random
        for _ in range(chance.choice([1, 1, 2, 2, 3])):
            self._draw_object()
        imports: tuple[str, ...] = ()
        if chance.random() < 0.25:
            imports = (self._draw_import(),) * chance.choice([1, 2])
        actions = [self._draw_action() for _ in range(chance.choice([0, 1, 1, 2]))]
        self.run(chance.choice([2, 2, 2, 3, 4]), *actions, imports=imports)
        self.check()
        if self.backup is None and chance.random() < 0.3:
            self.note("backup")
            self.backup = self.world.live.dump()
        elif self.backup is not None and chance.random() < 0.3:
            self.restore_from_backup()

    def restore_from_backup(self) -> None:
        """Replace the live database by an older backup, and replay the archive into it."""
        assert self.backup is not None
        self.note("the backup is restored")
        self._consumers.clear()
        self._close_links()
        self.world.live.restore(self.backup)
        if self.draw.is_wide:
            self.world.live.set_label(WIDE)
        self.call("replay", "--yes", "--workers", "1", faults=())

    def sweep(self) -> None:
        """Send events of objects that are not applied, as the scheduled sweep does."""
        rows = self.world.live.admin.execute(
            "SELECT object FROM forebay.ledger WHERE completed_at IS NOT NULL"
        ).fetchall()
        applied = {key for (key,) in rows}
        for key in sorted(self.world.s3.versions):
            if key.startswith("commands/") and key not in applied:
                self.world.queue.send_object(key)

    def finish(self) -> None:
        """Apply everything with the last release, and check that all copies agree."""
        world = self.world
        self.new_release(LAST)
        if self.late:
            self.deliver(self.late)
        world.queue.redrive()
        self.sweep()
        self.run(2, faults=())
        if self.is_outdated:
            self.call("replay", "--yes", "--workers", "1", faults=())
        self.check()
        checks.check_content(world.live, "live", world.s3)
        checks.check_ledger(world.live, "live", world.s3)
        expected = world.live.content()
        self._must_be_clean()
        if self._scratch_is_used:
            self.call("replay", "--yes", "--workers", "1", database=world.scratch, faults=())
            checks.check_outcomes(world.scratch, "second database", world.s3)
            checks.check_same(expected, world.scratch.content(), ("live", "the second database"))
        self._prove_replay(expected)
        self._prove_rebuild(expected)
        if self.backup is not None:
            self.restore_from_backup()
            checks.check_same(expected, world.live.content(), ("live", "restore and replay"))
            self._must_be_clean()
        checks.check_archive(world.s3)

    def _prove_replay(self, expected: dict[str, bytes]) -> None:
        scratch = self.empty_scratch()
        self.call("replay", "--yes", "--workers", "1", database=scratch, faults=())
        checks.check_outcomes(scratch, "replay", self.world.s3)
        checks.check_same(expected, scratch.content(), ("live", "a replay into an empty database"))
        checks.check_archive(self.world.s3)
        checks.check_writers(self.world.s3, SCRATCH_OPERATOR)

    def _prove_rebuild(self, expected: dict[str, bytes]) -> None:
        scratch = self.empty_scratch()
        code = self.call("rebuild", "--yes", "--processes", "1", database=scratch, faults=())
        if code != 0:
            raise ViolationError(f"the rebuild at rest ended with {code}: {self.steps[-1]}")
        checks.check_same(expected, scratch.content(), ("live", "a rebuild"))
        live, rebuilt = self.world.live.rejections(), scratch.rejections()
        if live != rebuilt:
            raise ViolationError(f"rejections differ: live {live}, a rebuild {rebuilt}")

    def _must_be_clean(self) -> None:
        code = self.call("verify", "--at", _now(), faults=())
        nothing_compared = code == ExitCode.INCOMPLETE and self._last_facts.get("compared") == 0
        if code != 0 and not nothing_compared:
            raise ViolationError(
                f"verify ended with {code}, nothing was tampered with: "
                f"{self._last_facts.get('named')}"
            )

    def tamper(self, what: str | None = None) -> None:
        """Change the live database by hand; `verify` must detect the change."""
        live = self.world.live
        possible = [one for one, query in TAMPERS.items() if _changes(live, query)]
        if not possible:
            return
        what = what or self.random.choice(possible)
        query = TAMPERS[what]
        self.note(f"tampering: {what}")
        live.admin.execute(query.encode())
        code = self.call("verify", "--at", _now(), faults=())
        if code == 0:
            raise ViolationError(f"verify says that nothing differs although {what}")

    def empty_scratch(self) -> Database:
        """The scratch database, emptied."""
        scratch = self.world.scratch
        scratch.empty()
        if self.draw.is_wide:
            scratch.set_label(WIDE)
        return scratch

    # Draws

    def _draw_object(self) -> None:
        chance = self.random
        lines = [self.draw.line() for _ in range(chance.randint(1, 5))]
        if self.late and chance.random() < 0.5:
            lines.append(self.late.pop())
        if len(lines) > 1 and chance.random() < 0.15:
            self.late.append(lines.pop())
        chance.shuffle(lines)
        self.deliver(lines, times=chance.choice([1, 1, 1, 2, 3]))
        if chance.random() < 0.35:  # Firehose delivers some records twice
            again = chance.sample(lines, chance.randint(1, len(lines)))
            more = [self.draw.line() for _ in range(chance.randint(0, 2))]
            self.deliver(again + more, times=chance.choice([1, 2]))

    def _draw_import(self) -> str:
        key = f"imports/things/put/file-{self.draw.number}.ndjson"
        bodies = [
            {"number": self.random.choice(THINGS), **self.draw.thing_body()} for _ in range(4)
        ]
        content = b"".join(orjson.dumps(body) + b"\n" for body in bodies)
        self.world.s3.now = accepted_at(self.draw.number)
        self.draw.number += 1
        self.world.s3.put_object(Bucket=BUCKET, Key=key, Body=content, writer="client")
        self.note(f"import {key}: {content.decode()}")
        return key

    def _draw_action(self) -> Callable[[], None]:
        return self.random.choice(
            [
                self._replay,
                self._replay,
                self._replay_some,
                self._replay_by_queue,
                self._replay_with_another_release,
                self._outdate,
                self._verify,
                self._rebuild,
                self._replay_into_scratch,
                self._retry,
                self._discard,
                self._widen,
                self._widen,
            ]
        )

    def _replay(self) -> None:
        self.call("replay", "--yes", "--workers", "1")

    def _replay_some(self) -> None:
        first = accepted_at(self.random.randint(0, self.draw.number))
        last = first + self.random.randint(1, 10) * STEP
        choices: list[tuple[str, ...]] = [
            ("--resource", "things"),
            ("--key", str(self.random.choice(THINGS))),
            ("--from", first.isoformat(), "--to", last.isoformat()),
        ]
        self.call("replay", "--yes", "--workers", "1", *self.random.choice(choices))

    def _replay_by_queue(self) -> None:
        self.note("replay by the queue")
        keys = sorted(checks.lines_of(self.world.s3))
        self.operator.enqueue_replay(keys, Selection())

    def _replay_with_another_release(self) -> None:
        other = self.random.choice([one for one in RELEASES if one != self.release])
        self.call("replay", "--yes", "--workers", "1", release=other)

    def _outdate(self) -> None:
        self.is_outdated = True
        last = accepted_at(self.draw.number + 1).isoformat()
        when = ("--from", accepted_at(0).isoformat(), "--to", last)
        self.call("outdate", "things", *when, "--yes")
        self.call("replay", "--yes", "--workers", "1", "--resource", "things")

    def _verify(self) -> None:
        code = self.call("verify", "--at", _now())
        # Release 2 legitimately can't read everything that release 1 has applied.
        if code == 1 and not self.is_outdated and self.release != 2:
            raise ViolationError(f"verify saw drift under traffic: {self._last_facts.get('named')}")

    def _rebuild(self) -> None:
        scratch = self.empty_scratch()
        self._scratch_is_used = True
        lenient = ("--allow-new-rejections", "--workers", "1")
        more = self.random.choice([("--processes", "1"), lenient])
        self.call("rebuild", "--yes", *more, database=scratch)

    def _replay_into_scratch(self) -> None:
        self._scratch_is_used = True
        self.call("replay", "--yes", "--workers", "1", database=self.world.scratch)

    def _retry(self) -> None:
        self.call("rejections", "retry", "--yes", "--by", "ann")

    def _discard(self) -> None:
        self.call("rejections", "discard", "--all", "--reason", "none", "--yes", "--by", "ann")

    def _widen(self) -> None:
        self.note("things.label is widened")
        self.operator.sql(widening(WIDE))
        self.world.scratch.set_label(WIDE)
        self.draw.is_wide = True

    # Parts

    def _import(self, key: str) -> None:
        """Import a file; SQS delivers its message again each time the function crashes."""
        has_crashed = True
        while has_crashed:
            actor = self.world.actor("import", ("crash",))
            before = set(self.world.s3.versions)
            try:
                run_import(self.world, key, RELEASES[self.release], actor)
                has_crashed = False
            except CrashedError:
                pass
            # S3 sends an event for each stored object, even if the function crashed afterwards.
            for written in sorted(set(self.world.s3.versions) - before):
                if "/import-" in written and written.startswith("commands/"):
                    self.world.queue.send_object(written)

    def _consumer(self, number: int) -> ConsumerProcess:
        if number not in self._consumers:
            self._consumers[number] = ConsumerProcess(self.world, number, RELEASES[self.release])
        return self._consumers[number]

    def _guarded(self, target: Callable[..., None], *arguments: Any) -> None:
        try:
            target(*arguments)
        except CrashedError:
            pass
        except BaseException as exc:  # noqa: BLE001 - raised in the test's own thread
            self._errors.append(exc)

    def _close_links(self) -> None:
        self.world.close()


TAMPERS = {
    "a row has another value": """
        UPDATE things SET size = size + 1 WHERE number = (SELECT min(number) FROM things)
    """,
    "a row is missing": """
        DELETE FROM things WHERE number = (SELECT min(number) FROM things)
    """,
    "a row has a bogus newer version": """
        UPDATE things SET size = size + 1, _version = '019c0000-0000-7000-8000-000000000000'
        WHERE number = (SELECT min(number) FROM things)
    """,
    "a tombstone is missing": """
        DELETE FROM forebay.tombstones WHERE (resource, key) =
          (SELECT resource, key FROM forebay.tombstones ORDER BY 1, 2 LIMIT 1)
    """,
    "a rejection is missing": """
        DELETE FROM forebay.rejections
        WHERE id = (SELECT id FROM forebay.rejections ORDER BY id LIMIT 1)
    """,
    "a rejection has another code": """
        UPDATE forebay.rejections SET code = 'bogus'
        WHERE id = (SELECT id FROM forebay.rejections ORDER BY id LIMIT 1)
    """,
    "the patches of a key are missing": """
        DELETE FROM forebay.edits WHERE (resource, key) =
          (SELECT resource, key FROM forebay.edits ORDER BY 1, 2 LIMIT 1)
    """,
    "an item has another state tag": """
        UPDATE forebay.edits SET tag = 'bogus' WHERE (resource, key) =
          (SELECT resource, key FROM forebay.edits WHERE tag IS NOT NULL ORDER BY 1, 2 LIMIT 1)
    """,
    "an effect is missing": """
        DELETE FROM forebay.effects WHERE id = (SELECT id FROM forebay.effects ORDER BY id LIMIT 1)
    """,
    "an effect has another time": """
        UPDATE forebay.effects SET decided_at = decided_at + interval '1 second'
        WHERE id = (SELECT id FROM forebay.effects ORDER BY id LIMIT 1)
    """,
    "a row of the ledger is missing": """
        DELETE FROM forebay.ledger WHERE object = (SELECT min(object) FROM forebay.ledger)
    """,
    "a count of the ledger is wrong": """
        UPDATE forebay.ledger SET applied = applied + 1
        WHERE object = (SELECT min(object) FROM forebay.ledger)
    """,
}


def _changes(database: Database, query: str) -> bool:
    with database.admin.transaction(force_rollback=True):
        return database.admin.execute(query.encode()).rowcount > 0


@contextmanager
def history(arena: Arena, seed: int, chances: Chances | None = None) -> Iterator[History]:
    """A new history on empty databases; a failure in the block reports the seed and the steps."""
    arena.live.empty()
    arena.scratch.empty()
    chance = random.Random(seed)
    drawn = Chances(stay=chance.choice([0.2, 0.5, 0.9]), fault=chance.choice([0, 0.01, 0.03]))
    world = World(
        Scheduler(seed, arena.monitor, chances or drawn),
        FakeS3(),
        arena.live,
        arena.scratch,
        Queue(seed),
    )
    new_history = History(world, Draw(random.Random(seed + 1)), chance)
    try:
        yield new_history
    except BaseException as exc:
        if isinstance(exc, KeyboardInterrupt):
            raise
        raise HistoryFailedError(_report(seed, new_history, exc)) from exc
    finally:
        world.close()


def live_through(arena: Arena, seed: int) -> None:
    """Run the whole history of a seed."""
    with history(arena, seed) as lived:
        for _ in range(lived.random.choice([1, 1, 2, 2, 3])):
            lived.phase()
            if lived.release < LAST and lived.random.random() < 0.6:
                lived.new_release(lived.release + 1)
        lived.finish()
        lived.tamper()


def _report(seed: int, lived: History, error: BaseException) -> str:
    points = lived.world.scheduler.trace[-_SHOWN_POINTS:]
    return "\n".join(
        [
            f"{type(error).__name__}: {error}",
            "",
            f"seed {seed}; the steps:",
            *(f"  {step}" for step in lived.steps),
            "",
            f"the last {len(points)} points:",
            *(f"  {point}" for point in points),
            *(["", "the consumers said:", *lived.world.log.lines[-10:]]),
        ]
    )


def _now() -> str:
    """The current time; ids of amendments contain the real time."""
    return dt.datetime.now(dt.UTC).isoformat()


def _accepted(line: bytes) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(accepted_ms(decode(line).id) / 1000, dt.UTC)
    except InvalidLineError:
        return None


def _shown_line(line: bytes) -> str:
    try:
        one = decode(line)
    except InvalidLineError:
        return "a bad line"
    return f"{one.id[-6:]} {one.op} {one.resource} {one.key} v{one.schema} {one.body or ''}"
