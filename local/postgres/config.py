"""How the two clusters are set up: names, passwords that protect nothing, server parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from local.settings import LocalSettings

Role = Literal["primary", "replica"]

HOST = "127.0.0.1"
DATABASE = "forebay"
OWNER = "forebay"
READER = "forebay_read"
SUPERUSER = "postgres"
REPLICATION_SLOT = "forebay_replica"

# Passwords equal the roles' names: they exercise the real login, they are not secrets.
_HBA = """\
# Everything listens on the loopback address only.
host all         all      127.0.0.1/32 scram-sha-256
host replication postgres 127.0.0.1/32 scram-sha-256
"""
_HBA_TRUSTING = """\
host all         all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
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
    #: False for a test's cluster, which needs neither to survive a crash nor a login.
    durable: bool = True

    @property
    def host(self) -> str:
        """The address where it listens."""
        return HOST

    def url(self, user: str = OWNER, database: str = DATABASE) -> str:
        """A libpq URL; the password of every role is its name."""
        return f"postgresql://{user}:{user}@{HOST}:{self.port}/{database}"

    def hba(self) -> str:
        """The text of pg_hba.conf."""
        return _HBA if self.durable else _HBA_TRUSTING

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
    """How the replica logs in to its primary."""
    return (
        f"host=127.0.0.1 port={primary.port} user={SUPERUSER} password={SUPERUSER} "
        f"application_name={REPLICATION_SLOT}"
    )


def primary_of(settings: LocalSettings) -> Cluster:
    """The primary of a stack."""
    log = settings.logs / "postgres-primary.log"
    return Cluster("primary", settings.postgres / "primary", settings.ports.primary, log)


def replica_of(settings: LocalSettings) -> Cluster:
    """The replica of a stack."""
    log = settings.logs / "postgres-replica.log"
    return Cluster("replica", settings.postgres / "replica", settings.ports.replica, log)
