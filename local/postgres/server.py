"""Make and start the primary and its streaming replica under a supervisor, with automatic repairs.

Each data folder is built under a temporary name and renamed when complete: the name marks a folder
that a killed build left incomplete, and the next build replaces it.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil
import psycopg
from psycopg import pq

from local.errors import ChildDiedError, StartTimeoutError, StateUnusableError
from local.postgres.binaries import find_program, find_server_user
from local.postgres.config import (
    HBA,
    OWNER,
    READER,
    REPLICATION,
    REPLICATION_SLOT,
    SUPERUSER,
    Cluster,
    build_replication_conninfo,
)
from local.processes import Child, Spec, StopOrder, User
from local.supervisor import Supervisor

_BOOTSTRAP = Path(__file__).with_name("bootstrap.sql")
_START_SECONDS = 60.0
_STREAMING_SECONDS = 20.0
_SHUTDOWN_SECONDS = 20.0
# The start's error while a killed server's busy backend still runs.
_STILL_ATTACHED = "pre-existing shared memory block"


@dataclass(frozen=True)
class Servers:
    """The primary and replica of one stack, their folders and their start."""

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
        if not self.primary.folder.exists():
            self._initialise()
            # A replica of another primary can't follow this one.
            shutil.rmtree(self.replica.folder, ignore_errors=True)
            self.note("created a new database")
        if self._renew_passwords():
            self.note("renewed the passwords of its roles")
        deadline = time.monotonic() + _START_SECONDS
        while True:
            child = self._start(self.primary)
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
        slot_reason = self._prepare_slot()
        reason = self._find_reason_to_copy() or slot_reason
        if reason is None:
            child = self._start(self.replica)
            try:
                self._wait_until_streaming(child)
            except (ChildDiedError, StartTimeoutError) as exc:
                if isinstance(exc, ChildDiedError) and not child.has_ended():
                    raise
                reason = _find_complaint(child)
                self.supervisor.stop_one(child)
            else:
                return child
        self._copy()
        self.note(f"copied from the primary, because {reason}")
        child = self._start(self.replica)
        self._wait_until_streaming(child)
        return child

    # Making the folders

    @cached_property
    def _user(self) -> User | None:
        """The account of the servers, which gets the folder of both clusters."""
        parent = self.primary.folder.parent
        parent.mkdir(parents=True, exist_ok=True)
        user = find_server_user(parent)
        if user is not None:
            os.chown(parent, user.uid, user.gid)
        return user

    def _initialise(self) -> None:
        """Make a new cluster with the roles and the empty database `forebay`."""
        primary = self.primary
        folder = _empty_building_folder(primary)
        options = ["-U", SUPERUSER, "-E", "UTF8", "-A", "trust", "--no-instructions"]
        # The built-in provider sorts the same on every machine, regardless of its locales.
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        self._run("initdb", ["-D", str(folder), *options, *_sync(primary)])
        statements, digest = self._describe_passwords()
        self._execute(folder, _BOOTSTRAP.read_text() + statements)
        folder.rename(primary.folder)
        self._passwords.write_text(digest)

    def _renew_passwords(self) -> bool:
        """Set the roles' passwords of a stopped primary; return whether they changed."""
        statements, digest = self._describe_passwords()
        if self._passwords.exists() and self._passwords.read_text() == digest:
            return False
        self._execute(self.primary.folder, statements)
        self._passwords.write_text(digest)
        return True

    @property
    def _passwords(self) -> Path:
        """The file with the digest of the roles' passwords, next to the data folder."""
        return self.primary.folder.with_name(f"{self.primary.folder.name}.passwords")

    def _describe_passwords(self) -> tuple[str, str]:
        """Return the statements that set every role's password, and their digest."""
        statements = "".join(
            f"ALTER ROLE {role} PASSWORD '{self.primary.password(role)}'\n"
            for role in (SUPERUSER, OWNER, READER, REPLICATION)
        )
        return statements, hashlib.sha256(statements.encode()).hexdigest()

    def _copy(self) -> None:
        """Replace the replica's folder with a copy of the running primary."""
        replica = self.replica
        folder = _empty_building_folder(replica)
        source = ["-d", build_replication_conninfo(self.primary), "-S", REPLICATION_SLOT]
        # A spread checkpoint would delay the start by minutes.
        options = ["--checkpoint=fast", *_sync(replica)]
        password = self.primary.password(REPLICATION)
        self._run("pg_basebackup", ["-D", str(folder), *source, *options], password=password)
        standby = folder / "standby.signal"
        standby.touch()
        if self._user is not None:
            os.chown(standby, self._user.uid, self._user.gid)
        shutil.rmtree(replica.folder, ignore_errors=True)
        folder.rename(replica.folder)

    def _execute(self, folder: Path, statements: str) -> None:
        """Run statements, one per line, in template1, so that every database gets the privileges.

        Uses single-user mode, without a server or a port.
        """
        # The passwords are random: iterations would only slow down logins, not guessing.
        options = ["-c", "exit_on_error=on", "-c", "scram_iterations=1"]
        arguments = ["--single", "-D", str(folder), *options, "template1"]
        self._run("postgres", arguments, stdin=statements)

    def _run(
        self, name: str, arguments: Sequence[str], *, stdin: str = "", password: str = ""
    ) -> None:
        self.supervisor.run(
            Spec(
                name=name,
                command=[find_program(name), *arguments],
                log=self.primary.log.with_name(f"{name}.log"),
                env={"LC_ALL": "C", "PGPASSWORD": password},
                # A folder that the server's user may enter.
                cwd=Path("/"),
                stdin=stdin.encode(),
                user=self._user,
            )
        )

    # Starting the servers

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

    def _start(self, cluster: Cluster) -> Child:
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
                user=self._user,
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


def _sync(cluster: Cluster) -> Sequence[str]:
    return () if cluster.durable else ("--no-sync",)


def _empty_building_folder(cluster: Cluster) -> Path:
    folder = cluster.folder.with_name(f"{cluster.folder.name}.building")
    shutil.rmtree(folder, ignore_errors=True)
    return folder
