"""Settings of the database: its kind, its size, and its protection."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, Strict, model_validator

from infra.front import Names
from infra.section import Section

#: Replicas of an RDS instance, and readers of an Aurora cluster.
MAX_REPLICAS: Final = 15
#: Connections reserved for operators, backups and the migration.
SPARE_CONNECTIONS: Final = 10

#: RDS requires subnets in two zones.
_LEAST_ZONES: Final = 2
#: No region has more zones.
_NUMBERED_BLOCKS: Final = 6

ZoneId = Annotated[str, Field(pattern=r"^[a-z]+[0-9]-az([1-9]|10)$")]
Zone = Annotated[str, Field(pattern=r"^([1-6]|[a-z]+[0-9]-az([1-9]|10))$")]
ReadTimeout = Annotated[int, Field(ge=1, le=25)]
#: As in `db.t4g.medium`, without `db.`.
InstanceClass = Annotated[str, Field(pattern=r"^[a-z0-9]+\.[a-z0-9]+$")]
Version = Annotated[str, Field(pattern=r"^\d{2}(\.\d+)?$")]
Capacity = Annotated[float, Field(ge=0, le=256, multiple_of=0.5)]


class NetworkSettings(Section):
    """A new VPC of the environment, with an isolated subnet in each zone."""

    #: It has room for a subnet in every zone, so that other zones can be added (`find_block`).
    cidr: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+\.\d+/(1[6-9]|2[0-2])$")]
    #: The region's first zones; 2 unless `zones` is given.
    availability_zones: Annotated[int, Field(ge=2, le=3)] | None = None
    #: Ids of zones, as `use1-az1`: unlike names, they mean the same zone in every account.
    zones: Annotated[tuple[ZoneId, ...], Strict(strict=False)] = ()
    #: Zones that the functions no longer use, but with subnets that stay: ids, or numbers such as
    #: `3`.
    kept_zones: Annotated[tuple[Zone, ...], Strict(strict=False)] = ()

    @property
    def used_zones(self) -> tuple[str, ...]:
        """The zones of the functions: ids, or the numbers of the region's first zones."""
        count = self.availability_zones or _LEAST_ZONES
        return self.zones or tuple(str(number) for number in range(1, count + 1))

    @property
    def all_zones(self) -> tuple[str, ...]:
        """The zones with a subnet: the database's servers may be in each."""
        return (*self.used_zones, *self.kept_zones)

    @model_validator(mode="after")
    def _check_cidr(self) -> Self:
        try:
            IPv4Network(self.cidr)
        except ValueError as invalid:
            raise ValueError(f"cidr is no network: {invalid}") from invalid
        return self

    @model_validator(mode="after")
    def _check_zones(self) -> Self:
        if self.zones and self.availability_zones is not None:
            raise ValueError("zones and availability_zones exclude each other")
        if self.zones and len(self.zones) < _LEAST_ZONES:
            raise ValueError("zones must name at least two zones, as RDS requires")
        repeated = {zone for zone in self.all_zones if self.all_zones.count(zone) > 1}
        if repeated:
            raise ValueError(
                f"zones and kept_zones name {', '.join(sorted(repeated))} twice; a zone that the "
                "functions use needs no entry in kept_zones"
            )
        return self


def find_block(zone: str) -> int:
    """The block of the network's sixteen in which a zone's subnet is.

    It depends on the zone alone, so that other zones can be added and removed. The first six blocks
    are for zones by number, the others for zones by id: the same zone may be both, while settings
    change from numbers to ids.
    """
    _, _, number = zone.rpartition("-az")
    return int(number) - 1 + (_NUMBERED_BLOCKS if "-az" in zone else 0)


class ExistingNetworkSettings(Section):
    """An existing VPC from which an external database can be reached."""

    vpc_id: Annotated[str, Field(pattern=r"^vpc-[0-9a-f]+$")]
    subnet_ids: Annotated[Names, Field(min_length=1)]
    #: The functions' security group: it must allow connections to the database and to S3.
    security_group_id: Annotated[str, Field(pattern=r"^sg-[0-9a-f]+$")]


class ExternalDatabase(Section):
    """An existing database."""

    kind: Literal["external"]
    url: str
    replica_url: str
    #: The URL for the migration's user; `url` by default.
    owner_url: str | None = None
    #: The primary's URL for functions that only read; `url` by default.
    reader_url: str | None = None
    read_timeout_seconds: ReadTimeout
    #: The resources to which the functions log in with IAM tokens: `db-…`, `cluster-…` or `prx-…`.
    resource_ids: Names = ()
    #: None: the functions stay outside of any VPC.
    network: ExistingNetworkSettings | None = None
    max_connections: Annotated[int, Field(ge=20)] | None = None

    @property
    def replicas(self) -> int:
        """The number of read-only servers, as far as the addresses show."""
        return 0 if self.url == self.replica_url else 1

    def check_no_password(self) -> None:
        """Refuse a password: everyone with read access to a function's settings would see it.

        Raises:
            ValueError: a URL contains a password.
        """
        for key in ("url", "replica_url", "owner_url", "reader_url"):
            if urlsplit(getattr(self, key) or "").password is not None:
                raise ValueError(f"database.{key} must not contain a password")


class ManagedDatabase(Section):
    """The common settings of RDS and Aurora."""

    read_timeout_seconds: ReadTimeout
    #: Another number creates another, empty database in a stack of its own, next to the deployed
    #: stack: for changes that no database survives (infra/README.md).
    number: Annotated[int, Field(ge=1, le=9)] = 1
    network: NetworkSettings
    #: The server's default would be about 112 for each gibibyte of memory.
    max_connections: Annotated[int, Field(ge=20, le=8_388_607)]
    #: Share connections through RDS Proxy. Worth its price only for many short connections.
    proxy: bool = False
    backup_days: Annotated[int, Field(ge=1, le=35)]
    deletion_protection: bool
    #: Days for which Performance Insights are kept; 7 are free of charge.
    insights_days: Literal[7, 31, 93, 186, 372, 731] | None = None
    #: Statements that take longer are logged, with placeholders instead of their values.
    log_statements_milliseconds: Annotated[int, Field(ge=-1)] = 1_000
    #: How long a replica lets a query delay changes from the primary.
    max_standby_delay_seconds: Annotated[int, Field(ge=0, le=3_600)] = 30
    #: When AWS may restart the server, UTC.
    maintenance_window: str = "sun:04:00-sun:05:00"
    backup_window: str = "02:00-03:00"


class RdsDatabase(ManagedDatabase):
    """An RDS instance and its read replicas."""

    kind: Literal["rds"]
    version: Version = "18.3"
    instance_class: InstanceClass
    replica_class: InstanceClass | None = None
    replicas: Annotated[int, Field(ge=0, le=MAX_REPLICAS)]
    #: A standby instance in another zone; it serves no queries until a failover.
    multi_az: bool
    storage_gibibytes: Annotated[int, Field(ge=20, le=65_536)]
    #: The storage grows automatically up to this.
    max_storage_gibibytes: Annotated[int, Field(ge=20, le=65_536)]

    @model_validator(mode="after")
    def _check_storage(self) -> Self:
        # RDS refuses an upper limit that is less than a tenth above.
        if self.max_storage_gibibytes * 10 < self.storage_gibibytes * 11:
            raise ValueError(
                "max_storage_gibibytes must be at least 1.1 times storage_gibibytes, "
                "so that the storage can grow"
            )
        return self


class ServerlessSettings(Section):
    """Aurora Serverless v2: capacity units of about 2 GiB each."""

    min_units: Capacity
    max_units: Annotated[Capacity, Field(ge=1)]
    #: After this time without connections the cluster pauses, and only its storage is billed.
    pause_after_seconds: Annotated[int, Field(ge=300, le=86_400)] | None = None

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.min_units > self.max_units:
            raise ValueError("min_units must not be greater than max_units")
        if (self.min_units == 0) != (self.pause_after_seconds is not None):
            raise ValueError(
                "min_units = 0 and pause_after_seconds require each other: "
                "only a cluster that can shrink to zero can pause"
            )
        return self


class GlobalSettings(Section):
    """Membership in an Aurora Global Database, which spans regions."""

    identifier: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    #: The present role of this region; only the primary accepts writes.
    role: Literal["primary", "secondary"]
    #: The role when the cluster was created. Needed after a failover has changed the role: a
    #: cluster can't be declared as another kind without being replaced.
    made_as: Literal["primary", "secondary"] | None = None

    @property
    def began_as(self) -> Literal["primary", "secondary"]:
        """The role when the cluster was created."""
        return self.made_as or self.role


class AuroraDatabase(ManagedDatabase):
    """An Aurora cluster: a writer and readers that share one storage."""

    kind: Literal["aurora"]
    version: Version = "18.4"
    #: For writer and readers; None if they are serverless.
    instance_class: InstanceClass | None = None
    serverless: ServerlessSettings | None = None
    replicas: Annotated[int, Field(ge=0, le=MAX_REPLICAS)]
    #: I/O is included in a higher price for instances and storage; it pays off if I/O is a quarter.
    io_optimized: bool = False
    in_global: GlobalSettings | None = None

    @property
    def pauses(self) -> bool:
        """True if the cluster pauses when it is not used."""
        return self.serverless is not None and self.serverless.pause_after_seconds is not None

    @property
    def secondary(self) -> bool:
        """True if this cluster follows a primary in another region, and accepts no writes."""
        return self.in_global is not None and self.in_global.role == "secondary"

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.instance_class is None) == (self.serverless is None):
            raise ValueError("exactly one of instance_class and serverless is required")
        return self

    @model_validator(mode="after")
    def _check_pausing(self) -> Self:
        if not self.pauses:
            return self
        if self.proxy:
            raise ValueError(
                "proxy and serverless.pause_after_seconds exclude each other: RDS Proxy keeps "
                "connections open, so the cluster would never pause"
            )
        if self.in_global is not None:
            raise ValueError("a cluster of a global database can't pause")
        return self

    @model_validator(mode="after")
    def _check_secondary(self) -> Self:
        if self.proxy and self.secondary:
            raise ValueError("proxy must be off in a secondary region, which has no writer")
        return self


DatabaseSettings = Annotated[
    ExternalDatabase | RdsDatabase | AuroraDatabase, Field(discriminator="kind")
]


def check_connections(
    database: ExternalDatabase | RdsDatabase | AuroraDatabase,
    *,
    applying: int,
    reading: dict[str, int | None],
) -> None:
    """Check that the functions at their maximum leave spare connections.

    A function holds one connection per instance, and queries that the replicas can't answer go to
    the primary.

    Args:
        database: the database. It is not checked if its limit is unknown, or if a proxy shares
            connections.
        applying: the maximum number of consumers.
        reading: reserved concurrency by function; None without a reservation.

    Raises:
        ValueError: the functions may need too many connections, or an unbounded number.
    """
    if database.max_connections is None or getattr(database, "proxy", False):
        return
    for name, reserved in reading.items():
        if reserved is None:
            raise ValueError(
                f"functions.{name}.reserved_concurrency is required without a proxy, because "
                "it bounds the connections to the database"
            )
    needed = applying + sum(reserved or 0 for reserved in reading.values()) + SPARE_CONNECTIONS
    if needed > database.max_connections:
        raise ValueError(
            f"database.max_connections is {database.max_connections}, but the functions can open "
            f"{needed - SPARE_CONNECTIONS} connections and {SPARE_CONNECTIONS} must stay free: "
            "reduce the functions' reserved_concurrency or set database.proxy"
        )
