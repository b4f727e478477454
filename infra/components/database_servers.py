"""Where a database's servers are, under which names one logs in, and what that takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import aws_cdk as cdk
from constructs import Construct

from infra.components.network import POSTGRES_PORT

DATABASE: Final = "forebay"
#: Owns the tables, and is used by the migration alone, which makes the other two.
OWNER: Final = "forebay_owner"
WRITER: Final = "forebay_write"
READER: Final = "forebay_read"
#: Where a function finds the certificates of RDS in its package.
CERTIFICATES: Final = "/var/task/rds-ca-bundle.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where a database's servers are, and what may log in to them."""

    #: The host that takes writes.
    primary: str
    #: Hosts to read from; several where the database balances nothing itself.
    replicas: tuple[str, ...]
    #: As IAM tokens name them: `db-…`, `cluster-…`, `prx-…`.
    primary_ids: tuple[str, ...]
    replica_ids: tuple[str, ...]

    def url(self, user: str) -> str:
        """The primary's address for a user, who proves himself with a token."""
        return _url(user, [self.primary])

    def replica_url(self, user: str) -> str:
        """The replicas' address for a user."""
        return _url(user, self.replicas)


def login_arn(scope: Construct, resource_id: str, user: str) -> str:
    """What a role must be allowed in order to log in as a user."""
    return cdk.Stack.of(scope).format_arn(
        service="rds-db",
        resource="dbuser",
        resource_name=f"{resource_id}/{user}",
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )


def _url(user: str, hosts: list[str] | tuple[str, ...]) -> str:
    servers = ",".join(f"{host}:{POSTGRES_PORT}" for host in hosts)
    return (
        f"postgresql://{user}@{servers}/{DATABASE}?sslmode=verify-full&sslrootcert={CERTIFICATES}"
    )
