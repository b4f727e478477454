"""Random faults of the stack while clients work: two at a time, each for a few seconds."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from forebay.aws.events import build_event
from tests.fixtures.faulty import VISIBILITY_SECONDS, FaultyStack

_LONGEST_SECONDS = 4.0
_LONGEST_PAUSE_SECONDS = 1.5
_CUTS = 6
_REPETITIONS = 10


@dataclass
class Hazards:
    """Makes faults in two threads: of databases and functions, and of S3, SQS and Firehose.

    Faults of the same thread never overlap, so that each can be reverted on its own.
    """

    stack: FaultyStack
    seed: int
    #: Start, end and name of each fault, for the analysis of a run.
    log: list[tuple[float, float, str]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _errors: list[BaseException] = field(default_factory=list)

    @contextmanager
    def raging(self) -> Iterator[None]:
        """Make faults while the block runs; revert all of them at its end."""
        groups = (
            (
                self.primary_killed,
                self.primary_restarted,
                self.primary_refusing,
                self.connections_cut,
                self.replica_paused,
                self.replica_killed,
                self.consumers_killed,
                self.consumers_killed,
                self.writers_killed,
                self.readers_killed,
            ),
            (
                self.firehose_throttling,
                self.firehose_forgetful,
                self.firehose_down,
                self.firehose_disorderly,
                self.archive_refusing,
                self.nobody_accepting,
                self.messages_repeated,
                self.messages_impatient,
            ),
        )
        threads = [
            threading.Thread(target=self._make, args=(group, random.Random(self.seed + number)))
            for number, group in enumerate(groups)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()
            self.stack.heal()
        if self._errors:
            raise self._errors[0]

    def _make(
        self, group: tuple[Callable[[random.Random], None], ...], chance: random.Random
    ) -> None:
        try:
            while not self._ended.wait(chance.uniform(0, _LONGEST_PAUSE_SECONDS)):
                hazard = chance.choice(group)
                began = time.monotonic()
                hazard(chance)
                self.log.append((began, time.monotonic(), hazard.__name__))
        except BaseException as exc:  # noqa: BLE001 - the main thread raises a thread's errors
            self._errors.append(exc)

    def _lasts(self, chance: random.Random) -> None:
        self._ended.wait(chance.uniform(0.3, _LONGEST_SECONDS))

    # Databases and functions

    def primary_killed(self, chance: random.Random) -> None:
        self.stack.kill("Postgres primary")
        self._lasts(chance)
        self.stack.start_primary()

    def primary_restarted(self, _: random.Random) -> None:
        self.stack.stop("Postgres primary")
        self.stack.start_primary()

    def primary_refusing(self, chance: random.Random) -> None:
        with self.stack.primary.refusing():
            self._lasts(chance)

    def connections_cut(self, chance: random.Random) -> None:
        """Cut connections at statements of consumers and reads, before or after their execution."""
        for _ in range(_CUTS):
            proxy = chance.choice([self.stack.primary, self.stack.primary, self.stack.replica])
            proxy.cut_at(chance.randint(1, 12), chance.choice(["before", "after"]))
            self._ended.wait(chance.uniform(0.1, 0.6))

    def replica_paused(self, chance: random.Random) -> None:
        replica = self.stack.local.replica
        self.stack.as_superuser("SELECT pg_wal_replay_pause()", cluster=replica)
        try:
            self._lasts(chance)
        finally:
            self.stack.as_superuser("SELECT pg_wal_replay_resume()", cluster=replica)

    def replica_killed(self, chance: random.Random) -> None:
        self.stack.kill("Postgres replica")
        self._lasts(chance)
        self.stack.start_replica()

    def consumers_killed(self, chance: random.Random) -> None:
        for _ in range(3):
            self.stack.kill_workers("firehose_consumer")
            self._ended.wait(chance.uniform(0.2, 1.2))

    def writers_killed(self, _: random.Random) -> None:
        self.stack.kill_workers("write")

    def readers_killed(self, _: random.Random) -> None:
        self.stack.kill_workers("read")

    # Firehose, S3 and messages

    def _firehose(self, chance: random.Random, **faults: object) -> None:
        self.stack.set_firehose_faults(**faults, seed=chance.randrange(2**31))
        self._lasts(chance)
        self.stack.set_firehose_faults()

    def firehose_throttling(self, chance: random.Random) -> None:
        self._firehose(chance, throttle=0.8, partial_failure=0.5)

    def firehose_forgetful(self, chance: random.Random) -> None:
        """Firehose stores records but answers that it has not."""
        self._firehose(chance, lost_ack=0.7)

    def firehose_down(self, chance: random.Random) -> None:
        self._firehose(chance, down=chance.choice(["error", "reset"]))

    def firehose_disorderly(self, chance: random.Random) -> None:
        self._firehose(chance, duplicate=0.5, reorder=0.9)

    def archive_refusing(self, chance: random.Random) -> None:
        self._refuse_objects()
        self._lasts(chance)
        self.stack.s3_proxy.refuse = None

    def nobody_accepting(self, chance: random.Random) -> None:
        """The archive refuses, and Firehose stores records without acknowledging them."""
        self._refuse_objects()
        self._firehose(chance, lost_ack=1.0)
        self.stack.s3_proxy.refuse = None

    def _refuse_objects(self) -> None:
        bucket = self.stack.deployed.archive_bucket
        self.stack.s3_proxy.refuse = lambda _, path: path.startswith(f"/{bucket}")

    def messages_repeated(self, chance: random.Random) -> None:
        """Send events of old objects again."""
        bucket = self.stack.deployed.archive_bucket
        for key in chance.choices(self.stack.keys(), k=_REPETITIONS):
            self.stack.sqs.send_message(
                QueueUrl=self.stack.deployed.queue_url, MessageBody=build_event(bucket, key)
            )

    def messages_impatient(self, chance: random.Random) -> None:
        """SQS delivers messages again after a second, even if they are still being processed."""
        self.stack.hide_messages_for(1)
        self._lasts(chance)
        self.stack.hide_messages_for(VISIBILITY_SECONDS)
