"""Make the folder of a new primary, or of a replica of a running primary.

Each folder is built under a temporary name and renamed when complete: the name marks a folder that
a killed build left incomplete, and the next build replaces it.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.postgres.binaries import find_program
from local.postgres.config import (
    OWNER,
    READER,
    REPLICATION,
    REPLICATION_SLOT,
    SUPERUSER,
    Cluster,
    build_replication_conninfo,
)
from local.processes import Spec, User
from local.supervisor import Supervisor

_BOOTSTRAP = Path(__file__).with_name("bootstrap.sql")
# The suffix of a file next to the data folder: a digest of the passwords of its roles.
_PASSWORDS_SUFFIX = ".passwords"


@dataclass(frozen=True, slots=True)
class Builder:
    """A runner of PostgreSQL's tools, as the user of the servers."""

    supervisor: Supervisor
    user: User | None
    logs: Path

    def initialise(self, primary: Cluster) -> None:
        """Make a new cluster with the roles and the empty database `forebay`."""
        folder = _empty_building_folder(primary)
        options = ["-U", SUPERUSER, "-E", "UTF8", "-A", "trust", "--no-instructions"]
        # The built-in provider sorts the same on every machine, regardless of its locales.
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        self._run("initdb", ["-D", str(folder), *options, *_sync(primary)])
        self._execute(folder, _BOOTSTRAP.read_text() + _format_passwords(primary))
        folder.rename(primary.folder)
        _locate_passwords_digest(primary).write_text(_hash_passwords(primary))

    def renew_passwords(self, primary: Cluster) -> bool:
        """Set the roles' passwords of a stopped primary; return whether they changed."""
        file, digest = _locate_passwords_digest(primary), _hash_passwords(primary)
        if file.exists() and file.read_text() == digest:
            return False
        self._execute(primary.folder, _format_passwords(primary))
        file.write_text(digest)
        return True

    def copy(self, primary: Cluster, replica: Cluster) -> None:
        """Replace the replica's folder with a copy of the running primary."""
        folder = _empty_building_folder(replica)
        source = ["-d", build_replication_conninfo(primary), "-S", REPLICATION_SLOT]
        # A spread checkpoint would delay the start by minutes.
        options = ["--checkpoint=fast", *_sync(replica)]
        password = primary.password(REPLICATION)
        self._run("pg_basebackup", ["-D", str(folder), *source, *options], password=password)
        standby = folder / "standby.signal"
        standby.touch()
        if self.user is not None:
            os.chown(standby, self.user.uid, self.user.gid)
        if replica.folder.exists():
            shutil.rmtree(replica.folder)
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
                log=self.logs / f"{name}.log",
                env={"LC_ALL": "C", "PGPASSWORD": password},
                # A folder that the server's user may enter.
                cwd=Path("/"),
                stdin=stdin.encode(),
                user=self.user,
            )
        )


def _format_passwords(cluster: Cluster) -> str:
    """Return the statements that set every role's password."""
    roles = (SUPERUSER, OWNER, READER, REPLICATION)
    return "".join(f"ALTER ROLE {role} PASSWORD '{cluster.password(role)}'\n" for role in roles)


def _hash_passwords(cluster: Cluster) -> str:
    return hashlib.sha256(_format_passwords(cluster).encode()).hexdigest()


def _locate_passwords_digest(cluster: Cluster) -> Path:
    return cluster.folder.with_name(cluster.folder.name + _PASSWORDS_SUFFIX)


def _sync(cluster: Cluster) -> Sequence[str]:
    return () if cluster.durable else ("--no-sync",)


def _empty_building_folder(cluster: Cluster) -> Path:
    folder = cluster.folder.with_name(cluster.folder.name + ".building")
    if folder.exists():
        shutil.rmtree(folder)
    return folder
