"""Settings of the read cache: Valkey between the read function and the replicas."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from infra.database import AuroraDatabase, ExternalDatabase, InstanceClass, RdsDatabase
from infra.section import Section

#: Replicas of a node, besides it.
MAX_NODES: Final = 5


class ReadCacheSettings(Section):
    """A node of ElastiCache for Valkey with its replicas; on the emulator, a running server."""

    #: As in `cache.t4g.small`, without `cache.`.
    node_type: InstanceClass | None = None
    #: Nodes in other zones, one of which takes over if the first fails. They serve no reads.
    replicas: Annotated[int, Field(ge=0, le=MAX_NODES)] = 0
    #: The address of a running server, for the emulator only.
    address: str | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.node_type is None) == (self.address is None):
            raise ValueError(
                "exactly one of node_type (AWS) and address (emulator; set it with "
                "-c read_cache=…) is required"
            )
        return self


def check_read_cache(
    cache: ReadCacheSettings,
    database: ExternalDatabase | RdsDatabase | AuroraDatabase,
    *,
    emulated: bool,
) -> None:
    """Check that the cache fits the target and the database.

    Raises:
        ValueError: it does not.
    """
    if emulated:
        if cache.address is None:
            raise ValueError(
                "read_cache.node_type is for AWS only: the emulator has no ElastiCache"
            )
        return
    if cache.address is not None:
        raise ValueError("read_cache.address (-c read_cache=…) is for the emulator only")
    if isinstance(database, AuroraDatabase):
        raise ValueError(  # noqa: TRY004 - pydantic takes nothing else
            "read_cache requires database.kind 'rds': a reader of Aurora does not report the "
            "transactions that it shows in a way that proves an answer current; remove "
            "[read_cache], or use 'rds'"
        )
    if isinstance(database, ExternalDatabase):
        raise ValueError(  # noqa: TRY004 - as above
            "read_cache requires database.kind 'rds': the cache is in the network of the "
            "environment's own database; remove [read_cache], or use 'rds'"
        )
    if database.proxy:
        raise ValueError(
            "read_cache and database.proxy exclude each other: the proxy may send two statements "
            "of a read to different servers"
        )
