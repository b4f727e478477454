"""How the two clusters are set up: names, passwords, server parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from local.secret import derive, read_secret
from local.settings import LocalSettings

Role = Literal["primary", "replica"]

HOST = "127.0.0.1"
DATABASE = "forebay"
OWNER = "forebay"
READER = "forebay_read"
SUPERUSER = "postgres"
REPLICATION = "forebay_replication"
REPLICATION_SLOT = "forebay_replica"

#: The text of pg_hba.conf. The loopback address is every local user's, so all of them need a
#: password, and a superuser's is worth most: it runs programs as the server's user.
HBA = f"""\
host all         all           127.0.0.1/32 scram-sha-256
host replication {REPLICATION} 127.0.0.1/32 scram-sha-256
"""

_COMMON: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # A socket file would need a short path that the server's user may write to.
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "max_connections": "100",
    # A replica that stays away must not fill the disk; past this it is built anew.
    "max_slot_wal_keep_size": "1GB",
}
_REPLICA: Mapping[str, str] = {
    # Reads are short (the read function has a statement timeout), so telling the primary which rows
    # they still see costs it little bloat, and vacuum does not cancel them.
    "hot_standby_feedback": "on",
    # What still conflicts (a migration's lock) may hold back replay this long, then the query is
    # cancelled: staleness is bounded, and the read function asks the primary instead.
    "max_standby_streaming_delay": "3s",
    # The primary is on the same machine: notice a restart of it at once.
    "wal_retrieve_retry_interval": "500ms",
}
# Commits stay synchronous: what a test has committed is in the log, and so soon on the replica.
_THROWAWAY: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """One server: where its data is and how it is reached."""

    role: Role
    folder: Path
    port: int
    log: Path
    #: File with the secret that the roles' passwords are derived from (`local.secret`).
    secret: Path
    #: False for a test's cluster, which need not survive a crash.
    durable: bool = True

    @property
    def host(self) -> str:
        """The address where it listens."""
        return HOST

    def password(self, user: str) -> str:
        """A role's password.

        Raises:
            StateUnusableError: no start has made the secret yet.
        """
        return derive(read_secret(self.secret), f"postgres {user}")

    def url(self, user: str = OWNER, database: str = DATABASE) -> str:
        """A libpq URL with the password. Other users see command lines: never put it on one."""
        return f"postgresql://{user}:{self.password(user)}@{HOST}:{self.port}/{database}"

    def address(self, user: str = OWNER, database: str = DATABASE) -> str:
        """The same without the password, which libpq takes from `PGPASSWORD`."""
        return f"postgresql://{user}@{HOST}:{self.port}/{database}"

    def parameters(self, primary: "Cluster | None" = None) -> Mapping[str, str]:
        """Server parameters, given on the command line so that old data folders follow new code.

        Args:
            primary: whom the replica follows.
        """
        chosen = {**_COMMON, "port": str(self.port), "cluster_name": f"forebay-{self.role}"}
        if not self.durable:
            chosen |= _THROWAWAY
        if self.role == "replica" and primary is not None:
            chosen |= _REPLICA
            chosen["primary_conninfo"] = replication_conninfo(primary)
            chosen["primary_slot_name"] = REPLICATION_SLOT
        return chosen


def replication_conninfo(primary: Cluster) -> str:
    """How the replica logs in to its primary, but for the password (`PGPASSWORD`)."""
    return (
        f"host=127.0.0.1 port={primary.port} user={REPLICATION} application_name={REPLICATION_SLOT}"
    )


def primary_of(settings: LocalSettings) -> Cluster:
    """The primary of a stack."""
    log = settings.logs / "postgres-primary.log"
    folder = settings.postgres / "primary"
    return Cluster("primary", folder, settings.ports.primary, log, settings.secret)


def replica_of(settings: LocalSettings) -> Cluster:
    """The replica of a stack."""
    log = settings.logs / "postgres-replica.log"
    folder = settings.postgres / "replica"
    return Cluster("replica", folder, settings.ports.replica, log, settings.secret)
