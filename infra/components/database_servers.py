"""The addresses of a database's servers, its users, and the permissions to log in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import aws_cdk as cdk
from constructs import Construct

from infra.components.network import POSTGRES_PORT

DATABASE: Final = "forebay"
#: Owns the tables; only the migration uses it, and creates the other two users.
OWNER: Final = "forebay_owner"
WRITER: Final = "forebay_write"
READER: Final = "forebay_read"
#: The path of RDS's certificates in a function's package.
CERTIFICATES: Final = "/var/task/rds-ca-bundle.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The addresses of a database's servers, and their ids for IAM."""

    #: The host that accepts writes.
    primary: str
    #: Hosts to read from; several if the database has no load balancing of its own.
    replicas: tuple[str, ...]
    #: As IAM tokens name them: `db-…`, `cluster-…`, `prx-…`.
    primary_ids: tuple[str, ...]
    replica_ids: tuple[str, ...]

    def url(self, user: str) -> str:
        """The primary's address for a user that logs in with a token."""
        return _format_url(user, [self.primary])

    def replica_url(self, user: str) -> str:
        """The replicas' address for a user."""
        return _format_url(user, self.replicas)


def format_for_operators(url: str) -> str:
    """The URL without the functions' path of the certificates, which operators don't have."""
    path = re.compile(rf"(?<=[?&])sslrootcert={re.escape(CERTIFICATES)}(?:&|$)")
    return path.sub("", url).rstrip("?&")


def build_login_arn(scope: Construct, resource_id: str, user: str) -> str:
    """The resource that a role needs for `rds-db:connect` as a user."""
    return cdk.Stack.of(scope).format_arn(
        service="rds-db",
        resource="dbuser",
        resource_name=f"{resource_id}/{user}",
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )


def _format_url(user: str, hosts: list[str] | tuple[str, ...]) -> str:
    servers = ",".join(f"{host}:{POSTGRES_PORT}" for host in hosts)
    return (
        f"postgresql://{user}@{servers}/{DATABASE}?sslmode=verify-full&sslrootcert={CERTIFICATES}"
    )
