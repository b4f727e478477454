"""Makes the folder of a new primary, or of a replica of a running one.

Each is built under another name and renamed when it is whole: what a kill leaves half-made is
recognised by its name and made again.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.child import Spec, User
from local.postgres.binaries import program
from local.postgres.config import REPLICATION_SLOT, SUPERUSER, Cluster, replication_conninfo
from local.supervisor import Supervisor

_BOOTSTRAP = Path(__file__).with_name("bootstrap.sql")


@dataclass(frozen=True, slots=True)
class Builder:
    """Runs PostgreSQL's tools, as the user that the servers run under."""

    supervisor: Supervisor
    user: User | None
    logs: Path

    def initialise(self, primary: Cluster) -> None:
        """A new cluster with the roles and the empty database `forebay`.

        Raises:
            ToolFailedError: one of PostgreSQL's tools failed.
        """
        building = _empty_building_folder(primary)
        options = ["-U", SUPERUSER, "-E", "UTF8", "-A", "trust", "--no-instructions"]
        # The built-in provider sorts alike on every machine, whatever locales it has.
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        self._run("initdb", ["-D", str(building), *options, *_sync(primary)])
        (building / "pg_hba.conf").write_text(primary.hba())
        # Statements in template1, so that every database gets the privileges; no server, no port.
        single_user = ["--single", "-D", str(building), "-c", "exit_on_error=on", "template1"]
        self._run("postgres", single_user, stdin=_BOOTSTRAP)
        building.rename(primary.folder)

    def copy(self, primary: Cluster, replica: Cluster) -> None:
        """A replica of the running primary, instead of what was there.

        Raises:
            ToolFailedError: pg_basebackup failed.
        """
        building = _empty_building_folder(replica)
        source = ["-d", replication_conninfo(primary), "-S", REPLICATION_SLOT]
        # A spread checkpoint would keep the start waiting for minutes.
        options = ["--checkpoint=fast", *_sync(replica)]
        self._run("pg_basebackup", ["-D", str(building), *source, *options])
        standby = building / "standby.signal"
        standby.touch()
        if self.user is not None:
            os.chown(standby, self.user.uid, self.user.gid)
        if replica.folder.exists():
            shutil.rmtree(replica.folder)
        building.rename(replica.folder)

    def _run(self, name: str, arguments: Sequence[str], *, stdin: Path | None = None) -> None:
        self.supervisor.run(
            Spec(
                name=name,
                command=[program(name), *arguments],
                log=self.logs / f"{name}.log",
                rank=0,
                env={"LC_ALL": "C"},
                # Somewhere that the other user may enter.
                cwd=Path("/"),
                stdin=stdin,
                user=self.user,
            )
        )


def _sync(cluster: Cluster) -> Sequence[str]:
    return () if cluster.durable else ("--no-sync",)


def _empty_building_folder(cluster: Cluster) -> Path:
    building = cluster.folder.with_name(cluster.folder.name + ".building")
    if building.exists():
        shutil.rmtree(building)
    return building
