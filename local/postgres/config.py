"""The configuration of the two clusters: names, passwords, server parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from local.credentials import derive, read_secret
from local.settings import LocalSettings

Role = Literal["primary", "replica"]

HOST = "127.0.0.1"
DATABASE = "forebay"
OWNER = "forebay"
READER = "forebay_read"
SUPERUSER = "postgres"
REPLICATION = "forebay_replication"
REPLICATION_SLOT = "forebay_replica"

#: The text of pg_hba.conf. Every local user can connect to the loopback address, so all roles
#: need a password; most of all the superuser, which can run programs as the server's user.
HBA = f"""\
host all         all           127.0.0.1/32 scram-sha-256
host replication {REPLICATION} 127.0.0.1/32 scram-sha-256
"""

_COMMON: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # A socket would need a short path in a folder that the server's user may write to.
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "max_connections": "100",
    # A stopped replica must not fill the disk; beyond this size it is rebuilt.
    "max_slot_wal_keep_size": "1GB",
}
_REPLICA: Mapping[str, str] = {
    # Reads are short (the read function has a statement time-out), so this feedback causes little
    # bloat on the primary, and keeps vacuum from cancelling reads.
    "hot_standby_feedback": "on",
    # Other conflicts (a migration's lock) delay replay by at most this time, then the query is
    # cancelled: this bounds staleness, and the read function queries the primary instead.
    "max_standby_streaming_delay": "3s",
    # The primary is on the same machine: reconnect soon after it restarts.
    "wal_retrieve_retry_interval": "500ms",
}
# Commits stay synchronous: a test's committed data is in the log, and soon on the replica.
_THROWAWAY: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """One server: its data folder and its address."""

    role: Role
    folder: Path
    port: int
    log: Path
    #: The file with the secret from which the roles' passwords are derived (`local.credentials`).
    secret: Path
    #: False for a test's cluster, which does not have to survive a crash.
    durable: bool = True

    @property
    def host(self) -> str:
        """The address that the server listens on."""
        return HOST

    def password(self, user: str) -> str:
        """Return a role's password."""
        return derive(read_secret(self.secret), f"postgres {user}")

    def url(self, user: str = OWNER, database: str = DATABASE) -> str:
        """Return a URL with the password, for no command line: other users can read those."""
        return f"postgresql://{user}:{self.password(user)}@{HOST}:{self.port}/{database}"

    def address(self, user: str = OWNER, database: str = DATABASE) -> str:
        """Return the URL without the password, which libpq takes from `PGPASSWORD`."""
        return f"postgresql://{user}@{HOST}:{self.port}/{database}"

    def parameters(self, primary: "Cluster | None" = None) -> Mapping[str, str]:
        """Return the server's parameters, for its command line; of a replica, with its primary."""
        values = {**_COMMON, "port": str(self.port), "cluster_name": f"forebay-{self.role}"}
        if not self.durable:
            values |= _THROWAWAY
        if self.role == "replica" and primary is not None:
            values |= _REPLICA
            values["primary_conninfo"] = build_replication_conninfo(primary)
            values["primary_slot_name"] = REPLICATION_SLOT
        return values


def build_replication_conninfo(primary: Cluster) -> str:
    """Return the replica's connection string for its primary, without the password."""
    return (
        f"host=127.0.0.1 port={primary.port} user={REPLICATION} application_name={REPLICATION_SLOT}"
    )


def locate_primary(settings: LocalSettings) -> Cluster:
    """Return the primary of a stack."""
    log = settings.logs / "postgres-primary.log"
    folder = settings.postgres / "primary"
    return Cluster("primary", folder, settings.ports.primary, log, settings.secret)


def locate_replica(settings: LocalSettings) -> Cluster:
    """Return the replica of a stack."""
    log = settings.logs / "postgres-replica.log"
    folder = settings.postgres / "replica"
    return Cluster("replica", folder, settings.ports.replica, log, settings.secret)
