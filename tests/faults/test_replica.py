"""The replica is killed, falls behind, or is promoted."""

import shutil
import time

import orjson

from tests.fixtures.emulator import wait_until
from tests.fixtures.faults import lasting, rows_of
from tests.fixtures.faulty import FaultyStack, Watched
from tests.fixtures.gateway import Client
from tests.fixtures.stack import new_city

PART = "replica"


def test_a_replica_killed(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    with stack.fault(
        "replica killed (-9)", "SIGKILL to the only replica; started again later", part=PART
    ) as watched:
        stack.kill("Postgres replica")
        time.sleep(lasting(20))
        stack.start_replica()
        watched.ends()
        wait_until(lambda: is_read(stack), "reads are answered")
        watched.fault.remark = f"reads {time.monotonic() - watched.ended:.1f} s after its start"


def is_read(stack: FaultyStack) -> bool:
    """Return whether a read succeeds that the stage cache can't answer."""
    key = new_city()["geonameid"]
    path = f"/v1/cities?geonameid=eq.{key}&offset=0&limit=1"
    return Client(stack.settings.ports.gateway).get(path).status == 200


def test_a_replica_that_is_behind(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    client = Client(stack.settings.ports.gateway)
    with stack.fault(
        "replica lag",
        "the replica stops replaying; reads with and without `Read-After`",
        part=PART,
    ) as watched:
        stack.as_superuser("SELECT pg_wal_replay_pause()", cluster=stack.local.replica)
        try:
            deadline = time.monotonic() + lasting(30)
            city = new_city()
            path = f"/v1/cities/{city['geonameid']}"
            kind = {"Content-Type": "application/json"}
            reply = client.request("PUT", path, kind, orjson.dumps(city))
            assert reply.status == 202
            version = reply.json()["command_id"]
            wait_until(lambda: bool(rows_of(stack.primary_url, [version])), "it is applied")
            assert client.get(path).status == 404, "the replica has not got it"
            fresh = client.get(path, {"Read-After": version})
            assert (fresh.status, fresh.json()) == (200, city), "the primary was asked"
            time.sleep(max(0.0, deadline - time.monotonic()))
        finally:
            stack.as_superuser("SELECT pg_wal_replay_resume()", cluster=stack.local.replica)
        watched.ends()
        watched.fault.remark = "`Read-After` is answered by the primary; other reads are old"


def test_a_replica_promoted(faulty_stack: FaultyStack) -> None:
    """The primary is lost with commits that the replica has not received, as is usual."""
    stack = faulty_stack
    with stack.fault(
        "replica promoted (failover)",
        "the replica is kept from receiving; 4 s later SIGKILL to the primary, `pg_promote`, and "
        "the database's name leads to the new primary; the old one never comes back",
        part="replica",
    ) as watched:
        keep_from_replicating(stack)
        watched.begins()
        time.sleep(4)
        committed = len(rows_of(stack.primary_url, ids(watched)))
        stack.kill("Postgres primary")
        replica = stack.local.replica
        stack.as_superuser("SELECT pg_promote(true, 30)", cluster=replica)
        stack.primary.switch_to(replica.port)
        watched.ends()
        kept = len(rows_of(stack.primary_url, ids(watched)))
        watched.fault.remark = (
            f"{committed - kept} commands that the old primary had applied were not on the new "
            "one; the sweep found their objects"
        )
    assert committed > kept, "or nothing was tried"
    replace_the_primary(stack)


def keep_from_replicating(stack: FaultyStack) -> None:
    """End replication, and refuse new replication connections."""
    rules = stack.local.primary.folder / "pg_hba.conf"
    rules.write_text(f"host replication all 127.0.0.1/32 reject\n{rules.read_text()}")
    stack.as_superuser("SELECT pg_reload_conf()")
    stack.as_superuser("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_replication")


def replace_the_primary(stack: FaultyStack) -> None:
    """Make the promoted server the primary of the stack, with a new replica."""
    primary, replica = stack.local.primary, stack.local.replica
    stack.stop("Postgres replica")
    shutil.rmtree(primary.folder)
    replica.folder.rename(primary.folder)
    stack.start_primary()
    stack.primary.switch_to(primary.port)
    stack.start_replica()


def ids(watched: Watched) -> list[str]:
    """The ids of all commands accepted up to now."""
    return [one.command_id for one in watched.traffic.accepted if one.command_id]
