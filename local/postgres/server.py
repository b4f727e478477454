"""Start the primary and its streaming replica under a supervisor, with automatic repairs."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
from psycopg import pq

from local.errors import ChildDiedError, StartTimeoutError, StateUnusableError
from local.postgres.binaries import find_program, find_server_user
from local.postgres.build import Builder
from local.postgres.config import HBA, REPLICATION, REPLICATION_SLOT, Cluster
from local.processes import Child, Spec, StopOrder
from local.supervisor import Supervisor

_START_SECONDS = 60.0
_STREAMING_SECONDS = 20.0
_SHUTDOWN_SECONDS = 20.0
# The start's error while a killed server's busy backend still runs.
_STILL_ATTACHED = "pre-existing shared memory block"


@dataclass(frozen=True, slots=True)
class Servers:
    """The primary and replica of one stack, and their start."""

    supervisor: Supervisor
    primary: Cluster
    replica: Cluster
    #: Called with a few words about work that is not part of every start.
    note: Callable[[str], None] = field(default=lambda _: None)

    def start_primary(self) -> Child:
        """Start the primary; initialise it first if it does not exist.

        Raises:
            StateUnusableError: a server can't start from the folder.
            ToolFailedError: a new cluster could not be made.
        """
        builder = self._make_builder(self.primary)
        if not self.primary.folder.exists():
            builder.initialise(self.primary)
            # A replica of another primary can't follow this one.
            shutil.rmtree(self.replica.folder, ignore_errors=True)
            self.note("created a new database")
        if builder.renew_passwords(self.primary):
            self.note("renewed the passwords of its roles")
        deadline = time.monotonic() + _START_SECONDS
        while True:
            child = self._start(self.primary, builder)
            try:
                self._wait_until_ready(child, self.primary)
            except ChildDiedError as exc:
                if not child.has_ended():
                    raise
                if _STILL_ATTACHED in child.log_tail() and time.monotonic() < deadline:
                    continue
                raise StateUnusableError(
                    f"PostgreSQL can't start from {self.primary.folder} "
                    f"({_find_complaint(child)}); see {self.primary.log}; "
                    "`make reset` deletes the state after a confirmation"
                ) from exc
            return child

    def start_replica(self) -> Child:
        """Start the replica, and return when it streams from the running primary.

        It has no data of its own: a replica that is missing, damaged or unable to follow is copied
        from the primary again.

        Raises:
            ToolFailedError: the primary could not be copied.
            ChildDiedError, StartTimeoutError: even a new copy does not follow.
        """
        builder = self._make_builder(self.replica)
        slot_reason = self._prepare_slot()
        reason = self._find_reason_to_copy() or slot_reason
        if reason is None:
            child = self._start(self.replica, builder)
            try:
                self._wait_until_streaming(child)
            except (ChildDiedError, StartTimeoutError) as exc:
                if isinstance(exc, ChildDiedError) and not child.has_ended():
                    raise
                reason = _find_complaint(child)
                self.supervisor.stop_one(child)
            else:
                return child
        builder.copy(self.primary, self.replica)
        self.note(f"copied from the primary, because {reason}")
        child = self._start(self.replica, builder)
        self._wait_until_streaming(child)
        return child

    def _make_builder(self, cluster: Cluster) -> Builder:
        parent = cluster.folder.parent
        parent.mkdir(parents=True, exist_ok=True)
        user = find_server_user(parent)
        if user is not None:
            os.chown(parent, user.uid, user.gid)
        return Builder(self.supervisor, user, cluster.log.parent)

    def _find_reason_to_copy(self) -> str | None:
        if not self.replica.folder.exists():
            return "it did not exist"
        if not (self.replica.folder / "standby.signal").exists():
            return "it had been promoted to a primary"
        return None

    def _prepare_slot(self) -> str | None:
        """Create the replication slot if it is missing or lost; return the reason to copy again."""
        with psycopg.connect(self.primary.url(REPLICATION), autocommit=True) as connection:
            row = connection.execute(
                "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s",
                [REPLICATION_SLOT],
            ).fetchone()
            if row is not None and row[0] != "lost":
                return None
            if row is not None:
                connection.execute("SELECT pg_drop_replication_slot(%s)", [REPLICATION_SLOT])
            connection.execute(
                "SELECT pg_create_physical_replication_slot(%s, true)", [REPLICATION_SLOT]
            )
        return "it was too far behind" if row else "the primary had no replication slot for it"

    def _start(self, cluster: Cluster, builder: Builder) -> Child:
        _clear_stale_lock(cluster.folder)
        # At each start, to update the folders of older code.
        (cluster.folder / "pg_hba.conf").write_text(HBA)
        source = self.primary if cluster.role == "replica" else None
        parameters = cluster.parameters(source)
        options = [
            argument for name, value in parameters.items() for argument in ("-c", f"{name}={value}")
        ]
        return self.supervisor.start(
            Spec(
                name=f"Postgres {cluster.role}",
                command=[find_program("postgres"), "-D", cluster.folder, *options],
                log=cluster.log,
                rank=StopOrder.REPLICA if source else StopOrder.PRIMARY,
                env={"LC_ALL": "C", "PGPASSWORD": source.password(REPLICATION) if source else ""},
                cwd=cluster.folder.parent,
                user=builder.user,
                # Fast shutdown; in a hurry immediate: the next start then recovers from the log.
                polite_signal=signal.SIGINT,
                rude_signal=signal.SIGQUIT,
                patience_seconds=_SHUTDOWN_SECONDS,
            )
        )

    def _wait_until_ready(self, child: Child, cluster: Cluster) -> None:
        # A ping needs no login.
        conninfo = cluster.address(REPLICATION, "postgres").encode()
        self.supervisor.wait_until(
            lambda: pq.PGconn.ping(conninfo) == pq.Ping.OK,
            child=child,
            timeout_seconds=_START_SECONDS,
        )

    def _wait_until_streaming(self, child: Child) -> None:
        self._wait_until_ready(child, self.replica)
        with psycopg.connect(self.primary.url(REPLICATION), autocommit=True) as connection:
            self.supervisor.wait_until(
                lambda: _is_streaming(connection), child=child, timeout_seconds=_STREAMING_SECONDS
            )


def _clear_stale_lock(folder: Path) -> None:
    """Remove a killed server's lock file.

    Postgres itself removes the file if no process has its pid. But it refuses to start if the pid
    belongs to another process of its user, or to the killed server's zombie, which remains if no
    process reaps zombies: both are common in containers.
    """
    lock = folder / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int(lock.read_text().split("\n", 1)[0])
        try:
            is_server = psutil.Process(pid).cwd() == str(folder)
        except psutil.Error:
            # Ended, a zombie, or another user's process, which can't be a server of the stack.
            is_server = False
        if not is_server:
            lock.unlink()


def _is_streaming(primary: psycopg.Connection) -> bool:
    row = primary.execute(
        "SELECT state FROM pg_stat_replication WHERE application_name = %s", [REPLICATION_SLOT]
    ).fetchone()
    return row is not None and row[0] == "streaming"


def _find_complaint(child: Child) -> str:
    """Return the server's last FATAL or PANIC message, without the prefix."""
    for line in reversed(child.log_tail().splitlines()):
        for level in ("PANIC:", "FATAL:"):
            message = line.partition(level)[2].strip()
            # These answer connections during the start, such as our readiness checks.
            if message and not message.startswith("the database system is"):
                return message
    return "without a message"
