"""Damage to the folders of both clusters between two starts, and the next start's repairs."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from local.credentials import make_secret
from local.errors import StateUnusableError
from local.postgres.binaries import find_server_user
from local.postgres.config import OWNER, REPLICATION_SLOT, SUPERUSER, Cluster, Role
from local.postgres.server import Servers
from local.postgres.throwaway import make_throwaway_cluster, open_folder
from local.supervisor import Supervisor
from tests.fixtures.postgres import ReplicatedCluster


class Machine:
    """A folder with a Postgres that is started and stopped, by a new supervisor each time."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self.folder = folder
        self.primary = self._cluster("primary", durable=durable)
        self.replica = self._cluster("replica", durable=durable)
        self.notes: list[str] = []

    def _cluster(self, role: Role, *, durable: bool) -> Cluster:
        return make_throwaway_cluster(self.folder, role, durable=durable)

    @contextmanager
    def running(self, *, replica: bool = False) -> Iterator[None]:
        """Start Postgres; stop it in an orderly way at the end of the block."""
        self.notes.clear()
        with Supervisor() as supervisor:
            servers = Servers(supervisor, self.primary, self.replica, self.notes.append)
            servers.start_primary()
            if replica:
                servers.start_replica()
            yield

    def crash(self) -> None:
        """Kill the running servers."""
        for cluster in (self.replica, self.primary):
            lock = cluster.folder / "postmaster.pid"
            if lock.exists():
                os.kill(int(lock.read_text().split("\n", 1)[0]), signal.SIGKILL)

    def write(self, name: str) -> None:
        with psycopg.connect(self.primary.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (name text)")
            connection.execute("INSERT INTO kept VALUES (%s)", [name])

    def names(self, cluster: Cluster) -> list[str]:
        if cluster.role == "replica":
            ReplicatedCluster(self.primary, self.replica).wait_for_replica()
        with psycopg.connect(cluster.url(OWNER), autocommit=True) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM kept")]


@pytest.fixture
def machine() -> Iterator[Machine]:
    with open_folder() as folder:
        yield Machine(folder)


@pytest.fixture
def durable_machine() -> Iterator[Machine]:
    """As in `make run`: durable, with the syncs to disk that make it slower."""
    with open_folder() as folder:
        yield Machine(folder, durable=True)


def test_data_is_there_after_a_stop_and_a_start(machine: Machine) -> None:
    with machine.running():
        machine.write("first")
        assert machine.notes == ["created a new database"]

    with machine.running():
        assert machine.names(machine.primary) == ["first"]
        assert machine.notes == []


def test_committed_data_is_there_after_both_servers_were_killed_and_the_replica_goes_on(
    durable_machine: Machine,
) -> None:
    machine = durable_machine
    with machine.running(replica=True):
        machine.write("before")
        machine.crash()

    with machine.running(replica=True):
        machine.write("after")
        assert machine.names(machine.primary) == ["before", "after"]
        assert machine.names(machine.replica) == ["before", "after"]
        assert machine.notes == []


def lose_the_folder(machine: Machine) -> None:
    shutil.rmtree(machine.replica.folder)


def damage_the_control_file(machine: Machine) -> None:
    control = machine.replica.folder / "global" / "pg_control"
    control.write_bytes(b"\xff" * control.stat().st_size)


def lose_the_log(machine: Machine) -> None:
    """Only the server itself detects this."""
    shutil.rmtree(machine.replica.folder / "pg_wal")


def become_a_primary(machine: Machine) -> None:
    (machine.replica.folder / "standby.signal").unlink()


def leave_half_a_copy(machine: Machine) -> None:
    machine.replica.folder.rename(machine.replica.folder.with_name("replica.building"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lose_the_folder, "it did not exist"),
        (leave_half_a_copy, "it did not exist"),
        (damage_the_control_file, "incompatible with server"),
        (become_a_primary, "it had been promoted to a primary"),
        (lose_the_log, 'directory "pg_wal" does not exist'),
    ],
)
def test_a_replica_that_can_not_follow_is_copied_again(
    machine: Machine, damage: Callable[[Machine], None], reason: str
) -> None:
    with machine.running(replica=True):
        machine.write("kept")
    damage(machine)

    with machine.running(replica=True):
        (note,) = machine.notes
        assert note.startswith("copied from the primary, because ")
        assert reason in note
        assert machine.names(machine.replica) == ["kept"]


def test_a_replica_of_another_primary_is_copied_again(machine: Machine) -> None:
    with machine.running(replica=True):
        machine.write("old")
    shutil.rmtree(machine.primary.folder)

    with machine.running(replica=True):
        machine.write("new")
        assert machine.notes[-1] == "copied from the primary, because it did not exist"
        assert machine.names(machine.replica) == ["new"]


def test_a_replica_without_its_log_on_the_primary_is_copied_again(machine: Machine) -> None:
    with machine.running(replica=True):
        machine.write("first")
    with machine.running():
        with psycopg.connect(machine.primary.url(SUPERUSER), autocommit=True) as connection:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [REPLICATION_SLOT])
        machine.write("second")

    with machine.running(replica=True):
        assert machine.notes[-1].endswith("the primary had no replication slot for it")
        assert machine.names(machine.replica) == ["first", "second"]


def test_half_a_first_initialisation_is_not_taken_for_a_cluster(machine: Machine) -> None:
    half = machine.primary.folder.with_name("primary.building")
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")

    with machine.running():
        machine.write("first")
        assert machine.notes == ["created a new database"]


def of_another_version(primary: Path) -> None:
    (primary / "PG_VERSION").write_text("17\n")


def of_no_version(primary: Path) -> None:
    (primary / "PG_VERSION").unlink()


def with_a_damaged_control_file(primary: Path) -> None:
    control = primary / "global" / "pg_control"
    content = bytearray(control.read_bytes())
    content[100] ^= 0xFF
    control.write_bytes(content)


def without_its_log(primary: Path) -> None:
    shutil.rmtree(primary / "pg_wal")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (of_another_version, "incompatible with server"),
        (of_no_version, "is not a valid data directory"),
        (with_a_damaged_control_file, "control file"),
        (without_its_log, "can't start from"),
    ],
)
def test_a_primary_that_can_not_be_started_is_one_sentence_with_folder_and_way_out(
    machine: Machine, damage: Callable[[Path], None], said: str
) -> None:
    with machine.running():
        machine.write("lost")
    damage(machine.primary.folder)

    with pytest.raises(StateUnusableError) as refusal, machine.running():
        pass

    message = str(refusal.value)
    assert said in message
    assert str(machine.primary.folder) in message
    assert "`make reset`" in message
    assert "\n" not in message


def test_a_killed_server_s_number_that_others_have_now_does_not_stop_the_start(
    machine: Machine,
) -> None:
    """Postgres takes any process of its own user with that pid for the old server."""
    with machine.running():
        machine.write("kept")
    user = find_server_user(machine.folder)
    stranger = subprocess.Popen(
        ["cat"],
        stdin=subprocess.PIPE,
        user=user.uid if user else None,
    )
    (machine.primary.folder / "postmaster.pid").write_text(f"{stranger.pid}\n")
    try:
        with machine.running():
            assert machine.names(machine.primary) == ["kept"]
    finally:
        stranger.communicate()


def test_a_zombie_with_the_killed_server_s_number_does_not_stop_the_start(
    machine: Machine,
) -> None:
    with machine.running():
        machine.write("kept")
    zombie = subprocess.Popen([sys.executable, "-S", "-c", "pass"], stdout=subprocess.PIPE)
    assert zombie.stdout is not None
    # Its end closes the pipe; it is a zombie until it is waited for.
    zombie.stdout.read()
    (machine.primary.folder / "postmaster.pid").write_text(f"{zombie.pid}\n")
    try:
        with machine.running():
            assert machine.names(machine.primary) == ["kept"]
    finally:
        zombie.communicate()


def test_a_folder_on_which_a_server_runs_is_left_alone(machine: Machine) -> None:
    with machine.running():
        machine.write("kept")
        second = Machine(machine.folder)
        with (
            pytest.raises(
                StateUnusableError,
                match=r"lock file \"postmaster.pid\" already exists",
            ),
            second.running(),
        ):
            pass

        assert machine.names(machine.primary) == ["kept"]


def test_a_cluster_with_other_passwords_gets_those_of_the_secret_and_keeps_its_data(
    machine: Machine,
) -> None:
    """A cluster of an earlier release, with names as passwords, or with a lost secret."""
    with machine.running(replica=True):
        machine.write("before")
        lost = machine.primary.url()
    machine.primary.secret.unlink()
    make_secret(machine.primary.secret)
    assert machine.primary.url() != lost

    with machine.running(replica=True):
        assert machine.notes == ["renewed the passwords of its roles"]
        assert machine.names(machine.replica) == ["before"]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(lost)


def test_a_start_requires_passwords_in_the_folder_of_an_earlier_release(machine: Machine) -> None:
    """A folder of an earlier release allows logins without a password."""
    with machine.running():
        machine.write("before")
    (machine.primary.folder / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")

    with machine.running():
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(machine.primary.address())
        assert machine.names(machine.primary) == ["before"]
