"""Law 7: a decision is made once and is archived before it takes effect."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

import resources
from forebay.apply import Counts, Source, apply
from forebay.archive.decisions import (
    DecisionLogError,
    build_entry_key,
    encode_decisions,
    read_decision_log,
)
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.decisions.decision_log import DecisionLog, NotOwnerError, PendingEntryError
from forebay.decisions.refusals import Refusal
from forebay.decisions.rejections import Rejection
from forebay.errors import TransientError
from forebay.ids import mark_orphaned
from tests.crossings.releases import RELEASES
from tests.fixtures.commands import city, command_id
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.tables import (
    Database,
    MemoryStore,
    create_tables,
    end_session,
    followed_log,
    open_connection,
)

WAIT_SECONDS = 30


def bad(number: int, key: int) -> Command:
    return city(number, key=key, name="x" * 300)


class Steps(MemoryStore):
    """An archive with callbacks before and after it stores decisions."""

    def __init__(self, of: MemoryStore) -> None:
        super().__init__(objects=of.objects)
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None

    def create(self, key: str, content: bytes) -> bool:
        if content.startswith(b'{"decision":"rejected"'):
            self.before()
            created = super().create(key, content)
            self.after()
            return created
        return super().create(key, content)


def apply_over(
    connection: Connection, store: MemoryStore, *chunk: Command, source: str = "commands/a.gz"
) -> Counts:
    return apply(
        connection,
        [chunk],
        Source(source),
        resources=resources.load(),
        decision_log=followed_log(connection, store),
    ).counts


def kill(database: Database, connection: Connection) -> None:
    end_session(database.connection, connection.info.backend_pid)


@pytest.fixture
def other_database(postgres_cluster: PostgresServer) -> Iterator[Database]:
    """A second database."""
    with cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(database=name)
        with open_connection(url) as connection:
            yield Database(url, connection)


def test_a_decision_archived_before_the_connection_died_is_taken_over(database: Database) -> None:
    store = Steps(database.store)
    with open_connection(database.url) as connection:
        store.after = lambda: kill(database, connection)
        with pytest.raises(psycopg.OperationalError):
            apply_over(connection, store, bad(1, 5), city(2, key=6))
    assert [one.id for one in database.archived] == [command_id(1)]
    assert database.rejections() == {}
    # The command would fit now, and is delivered in another object.
    database.connection.execute("ALTER TABLE cities ALTER name TYPE varchar(500)")
    with open_connection(database.url) as connection:
        counts = apply_over(connection, database.store, bad(1, 5), source="commands/b.gz")
    assert counts == Counts(duplicates=1)
    assert set(database.rejections()) == {command_id(1)}
    assert set(database.cities()) == {6}


def test_a_warm_consumer_takes_over_a_decision_that_another_archived_but_did_not_commit(
    database: Database,
) -> None:
    """The consumer read the log long ago; the reservation makes it read the log again."""
    database.decision_log()
    store = Steps(database.store)
    with open_connection(database.url) as connection:
        store.after = lambda: kill(database, connection)
        with pytest.raises(psycopg.OperationalError):
            apply_over(connection, store, bad(1, 5))
    database.connection.execute("ALTER TABLE cities ALTER name TYPE varchar(500)")
    assert database.apply([bad(1, 5)], source="commands/b.gz").counts == Counts(duplicates=1)
    assert set(database.rejections()) == {command_id(1)}


def test_a_late_write_of_a_dead_writer_finds_its_number_taken(database: Database) -> None:
    """The writer died during its request to S3, which arrives after others have continued."""
    late: list[Callable[[], bool]] = []

    class Slow(Steps):
        def create(self, key: str, content: bytes) -> bool:
            if content.startswith(b'{"decision":"rejected"'):
                late.append(lambda: MemoryStore.create(self, key, content))
                raise TransientError("no answer")
            return super().create(key, content)

    with open_connection(database.url) as connection, pytest.raises(TransientError):
        apply_over(connection, Slow(database.store), bad(1, 5))
    database.connection.execute("ALTER TABLE cities ALTER name TYPE varchar(500)")
    assert database.apply([bad(1, 5)], source="commands/b.gz").counts == Counts(applied=1)
    assert late[0]() is False
    assert database.archived == []
    with open_connection(database.url) as connection:
        followed_log(connection, database.store)
    assert database.rejections() == {}
    assert set(database.cities()) == {5}


def test_a_command_is_never_both_applied_and_rejected_by_two_consumers(
    database: Database,
) -> None:
    """One consumer archives the rejection; the other has the command in an object where it fits."""
    database.connection.execute("CREATE UNIQUE INDEX ON cities (name)")
    database.apply([city(1, key=1, name="Aachen")], source="commands/0.gz")
    taken = city(3, key=2, name="Aachen")
    store = Steps(database.store)
    decided, go_on = threading.Event(), threading.Event()

    def stop() -> None:
        decided.set()
        assert go_on.wait(WAIT_SECONDS)

    store.after = stop
    with (
        ThreadPoolExecutor(2) as pool,
        open_connection(database.url) as first,
        open_connection(database.url) as second,
    ):
        rejecting = pool.submit(apply_over, first, store, taken)
        assert decided.wait(WAIT_SECONDS)
        # The same object frees the name: a consumer that came later could apply the command.
        frees = city(2, "delete", 1)
        applying = pool.submit(
            apply_over, second, database.store, frees, taken, source="commands/b"
        )
        assert not applying.done()
        go_on.set()
        assert rejecting.result(WAIT_SECONDS) == Counts(rejected=1)
        assert applying.result(WAIT_SECONDS) == Counts(applied=1, duplicates=1)
    assert set(database.rejections()) == {command_id(3)}
    assert database.cities() == {}


def test_two_consumers_of_one_object_make_one_decision(database: Database) -> None:
    """Both consumers see the command fail, and get to the decision one after the other."""
    store = Steps(database.store)
    decided, go_on = threading.Event(), threading.Event()

    def stop() -> None:
        decided.set()
        assert go_on.wait(WAIT_SECONDS)

    store.after = stop
    with (
        ThreadPoolExecutor(2) as pool,
        open_connection(database.url) as first,
        open_connection(database.url) as second,
    ):
        one = pool.submit(apply_over, first, store, bad(1, 5), bad(2, 6))
        assert decided.wait(WAIT_SECONDS)
        other = pool.submit(apply_over, second, database.store, bad(1, 5), bad(2, 6))
        go_on.set()
        assert {one.result(WAIT_SECONDS), other.result(WAIT_SECONDS)} == {
            Counts(rejected=2),
            Counts(),
        }
    assert [one.id for one in database.archived] == [command_id(1), command_id(2)]
    row = database.ledger()["commands/a.gz"]
    assert (row["lines"], row["rejected"], row["duplicates"]) == (2, 2, 0)


def test_a_database_restored_from_a_backup_takes_over_later_decisions(
    database: Database, other_database: Database
) -> None:
    """The restored database, here an empty one, has the identity of the database in the backup."""
    database.decision_log()
    other_database.connection.execute(
        "INSERT INTO forebay.decision_log (database, position, owner, was_owner) VALUES"
        " (%s, 1, %s, true)",
        [*database.rows("SELECT database, owner FROM forebay.decision_log")[0]],
    )
    database.apply([bad(1, 5)])
    other_database.connection.execute("ALTER TABLE cities ALTER name TYPE varchar(500)")
    # The number of its first decision is taken, so it takes over the existing decisions.
    counts = apply(
        other_database.connection,
        [[bad(3, 7), city(4, key=8, population="many")]],
        Source("commands/b.gz"),
        resources=resources.load(),
        decision_log=DecisionLog(other_database.connection, database.store, resources.load()),
    ).counts
    assert counts == Counts(applied=1, rejected=1)
    assert set(other_database.rejections()) == {command_id(1), command_id(4)}
    assert [entry.slot for entry in database.entries()] == [0, 1, 2, 3]


def test_a_database_that_does_not_own_the_archive_keeps_its_decisions(
    database: Database, other_database: Database
) -> None:
    database.apply([bad(1, 5)])
    before = dict(database.store.objects)
    decision_log = DecisionLog(
        other_database.connection, database.store, resources.load(), ownership="claim"
    )
    decision_log.follow()
    outcome = apply(
        other_database.connection,
        [[bad(1, 5), bad(2, 6), city(3, key=7)]],
        Source("commands/a.gz"),
        resources=resources.load(),
        decision_log=decision_log,
    )
    assert outcome.counts == Counts(applied=1, rejected=1, duplicates=1)
    assert database.store.objects == before
    slots = other_database.rows("SELECT id::text, slot FROM forebay.rejections ORDER BY id")
    assert slots == [(command_id(1), 2), (command_id(2), None)]


def test_the_consumers_database_becomes_the_owner_and_the_former_one_decides_no_more(
    database: Database, other_database: Database
) -> None:
    database.apply([bad(1, 5)])
    followed_log(other_database.connection, database.store)
    assert other_database.rows("SELECT owner = database FROM forebay.decision_log") == [(True,)]
    assert set(other_database.rejections()) == {command_id(1)}
    with pytest.raises(NotOwnerError, match="forebay adopt"):
        database.apply([bad(2, 6), city(3, key=7)], source="commands/b.gz")
    assert set(database.cities()) == {7}
    assert database.rejections() == {command_id(1): "string_data_right_truncation"}
    # A new connection of its consumer does not take the archive back either.
    with open_connection(database.url) as connection:
        followed_log(connection, database.store)
    with pytest.raises(NotOwnerError):
        database.apply([bad(2, 6)], source="commands/b.gz")
    # Only an operator can.
    database.decision_log().adopt()
    assert database.apply([bad(2, 6)], source="commands/b.gz").counts == Counts(rejected=1)


def test_a_row_whose_command_turns_out_to_be_rejected_is_removed(
    database: Database, other_database: Database
) -> None:
    """For example in a database that was rebuilt before the command was decided about."""
    database.connection.execute("CREATE UNIQUE INDEX ON cities (name)")
    database.apply([city(1, key=1, name="Aachen")], source="commands/0.gz")
    taken = city(3, key=2, name="Aachen")
    apply(
        other_database.connection,
        [[taken]],
        Source("commands/a.gz", replay=True),
        resources=resources.load(),
        decision_log=DecisionLog(other_database.connection, database.store, resources.load()),
        decides=False,
    )
    assert set(other_database.cities()) == {2}
    database.apply([taken])
    decision_log = DecisionLog(other_database.connection, database.store, resources.load())
    decision_log.follow()
    assert decision_log.undone_count == 1
    assert other_database.cities() == {}


def test_a_run_without_decisions_returns_commands_that_it_can_not_apply(database: Database) -> None:
    chunk = [bad(3, 5), city(2, key=5), city(1, key=6)]
    outcome = database.apply(chunk, replay=True, decides=False)
    assert outcome.counts == Counts(applied=1)
    assert [(one.entry, one.code) for one in outcome.undecided] == [
        (bad(3, 5), "string_data_right_truncation"),
        (city(2, key=5), "string_data_right_truncation"),
    ]
    assert (database.rejections(), database.ledger(), database.archived) == ({}, {}, [])


def test_an_unfit_command_is_not_rejected_if_it_is_applied_or_beaten(
    database: Database,
) -> None:
    """This release's upcaster raises, the previous release's did not."""
    database.apply([city(1, key=1), city(4, key=2)], source="commands/0.gz")

    def fail(_body: dict[str, object]) -> dict[str, object]:
        raise ValueError("no")

    spec = resources.load()["cities"]
    newer = {"cities": replace(spec, schema_version=2, upcasters={1: fail})}
    old = [city(1, key=1), city(3, key=2), city(5, key=3)]
    outcome = database.apply(old, source="commands/a.gz", resources=newer)
    assert outcome.counts == Counts(duplicates=1, superseded=1, rejected=1)
    assert database.rejections() == {command_id(5): "upcast_failed"}


def test_two_swapped_values_of_one_chunk_apply(database: Database) -> None:
    database.connection.execute("CREATE UNIQUE INDEX ON cities (name)")
    database.apply([city(1, key=1, name="A"), city(2, key=2, name="B")], source="commands/0.gz")
    outcome = database.apply([city(3, key=1, name="B"), city(4, key=2, name="A")])
    assert outcome.counts == Counts(applied=2)
    assert {key: row[2] for key, row in database.cities().items()} == {1: "B", 2: "A"}


def test_a_column_that_got_a_wider_type_takes_a_value_over_a_warm_connection(
    database: Database,
) -> None:
    database.apply([city(1, key=1)], source="commands/0.gz")
    database.apply([city(2, key=1)], source="commands/1.gz")  # through the staging table
    database.connection.execute("ALTER TABLE cities ALTER name TYPE varchar(500)")
    assert database.apply([city(3, key=1, name="x" * 300)]).counts == Counts(applied=1)
    assert database.rejections() == {}


def test_a_log_with_a_gap_is_refused(database: Database) -> None:
    database.apply([bad(1, 5)])
    del database.store.objects[build_entry_key(1)]
    with pytest.raises(DecisionLogError, match=r"decisions/0+1\.ndjson is missing"):
        list(read_decision_log(database.store))


def test_the_reservation_of_a_dead_writer_does_not_delay_a_living_one(
    database: Database,
) -> None:
    """Chunks of this resource continue while another resource's decision is under way."""
    decision_log = database.decision_log()
    with open_connection(database.url) as connection:
        other = followed_log(connection, database.store)
        with other.reserve_slot() as slot, connection.transaction():
            slot.mark_alive()
            assert decision_log.has_rejected_between(None, None) is False
        connection.execute("UPDATE forebay.decision_log SET pending = 17")
    with pytest.raises(PendingEntryError):
        decision_log.has_rejected_between(None, None)
    decision_log.catch_up()
    assert decision_log.has_rejected_between(None, None) is False


def test_a_command_rejected_before_counts_once_next_to_a_new_rejection(
    database: Database,
) -> None:
    database.apply([bad(1, 5)], source="commands/0.gz")
    outcome = database.apply([bad(1, 5), bad(2, 5), city(0, key=5)])
    assert outcome.counts == Counts(applied=1, duplicates=1, rejected=1)
    replayed = database.apply([bad(1, 6), bad(3, 6)], replay=True, decides=False)
    assert (replayed.counts, len(replayed.undecided)) == (Counts(duplicates=1), 1)


def test_a_new_owner_publishes_its_private_decisions(
    database: Database, other_database: Database
) -> None:
    """For example a database that was rebuilt separately, and is now the consumer's database."""
    database.decision_log()
    own = DecisionLog(other_database.connection, database.store, resources.load())
    own.follow()
    apply(
        other_database.connection,
        [[bad(1, 5)]],
        Source("commands/a.gz"),
        resources=resources.load(),
        decision_log=own,
    )
    assert database.archived == []
    followed_log(other_database.connection, database.store)
    assert [one.id for one in database.archived] == [command_id(1)]
    assert other_database.rows("SELECT slot FROM forebay.rejections") == [(3,)]


def test_a_rejected_row_that_others_refer_to_is_marked(
    database: Database, other_database: Database
) -> None:
    connection = other_database.connection
    connection.execute("ALTER TABLE cities ADD CHECK (geonameid > 0)")
    apply(
        connection,
        [[city(1, key=2)]],
        Source("commands/a.gz", replay=True),
        resources=resources.load(),
        decision_log=DecisionLog(connection, database.store, resources.load()),
        decides=False,
    )
    connection.execute("CREATE TABLE visits (city bigint REFERENCES cities)")
    connection.execute("INSERT INTO visits VALUES (2)")
    database.connection.execute("ALTER TABLE cities ADD CHECK (geonameid <> 2)")
    database.apply([city(1, key=2)])
    decision_log = DecisionLog(connection, database.store, resources.load())
    decision_log.follow()
    assert decision_log.undone_count == 1
    assert other_database.cities()[2][0] == mark_orphaned(command_id(1))


def test_a_rejected_row_and_the_rejected_rows_that_refer_to_it_are_removed(
    database: Database,
) -> None:
    declared = RELEASES[1]
    create_tables(database.connection, declared)
    owner = Command(command_id(1), "put", "owners", "ann", 1, "t", None, {"note": None})
    body = {"code": "c1", "label": "fine", "owner": "ann", "size": 1}
    thing = Command(command_id(2), "put", "things", 1, 1, "t", None, body)
    decision_log = DecisionLog(database.connection, database.store, declared)
    source = Source("commands/a.gz", replay=True)
    apply(
        database.connection,
        [[owner, thing]],
        source,
        resources=declared,
        decision_log=decision_log,
        decides=False,
    )
    rejected = [
        Rejection.of(Refusal(command, "code", "detail"), command, "o", dt.datetime.now(dt.UTC))
        for command in (owner, thing)
    ]
    content = encode_decisions([one.to_archive() for one in rejected], [], "database")
    assert database.store.create(build_entry_key(1), content)
    decision_log.follow()
    assert decision_log.undone_count == 2
    counts = "SELECT (SELECT count(*) FROM owners), (SELECT count(*) FROM things)"
    assert database.rows(counts) == [(0, 0)]
