"""The read function's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from forebay.attachments import Bucket
from forebay.settings import flag, number, required

DEFAULT_BUFFER_SECONDS = 60.0
DEFAULT_STATEMENT_TIMEOUT_SECONDS = 10.0
#: API Gateway times out after 29 s; the answer needs some of that.
MAX_WAIT_SECONDS = 25.0
DEFAULT_WAIT_CAP_SECONDS = 20.0
DEFAULT_READ_AFTER_WAIT_SECONDS = 1.0
#: The age up to which `Read-After` looks up a command on the primary, beyond the buffering.
PRIMARY_WINDOW_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """The settings of the read function."""

    #: libpq URL of the replicas.
    replica_url: str
    #: libpq URL of the primary, queried once if a replica is behind.
    primary_url: str
    #: The stream's buffer interval; `Retry-After` derives from it.
    buffer_seconds: float
    statement_timeout_seconds: float
    #: The longest `Prefer: wait`.
    wait_cap_seconds: float
    #: How long `Read-After` waits for the replica.
    read_after_wait_seconds: float
    #: How callers prove their scopes: a kind of `forebay.access.Access`.
    authorization: str
    #: For `iam`: a JSON object of the principals' ARNs with their scopes; otherwise empty.
    principals: str
    #: The address of the read cache; empty without one.
    read_cache: str
    #: The bucket of attachments; None for none.
    attachments: Bucket | None
    #: CORS: the origin that may read the answers, or `*` for all; empty for none.
    cors_allow_origin: str
    #: False if the API declares no query parameters with a dot in their names; the function then
    #: does not see them (law 5).
    dotted_parameters: bool = True

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self:
        """Read the function's environment variables, which docs/configuration.md lists.

        Raises:
            forebay.errors.SettingsError: a variable is missing or not a number.
        """
        wait_cap = number(environment, "FOREBAY_WAIT_CAP_SECONDS", DEFAULT_WAIT_CAP_SECONDS)
        return cls(
            replica_url=required(environment, "FOREBAY_REPLICA_URL"),
            primary_url=required(environment, "FOREBAY_DATABASE_URL"),
            buffer_seconds=number(environment, "FOREBAY_BUFFER_SECONDS", DEFAULT_BUFFER_SECONDS),
            statement_timeout_seconds=number(
                environment,
                "FOREBAY_STATEMENT_TIMEOUT_SECONDS",
                DEFAULT_STATEMENT_TIMEOUT_SECONDS,
            ),
            wait_cap_seconds=min(wait_cap, MAX_WAIT_SECONDS),
            read_after_wait_seconds=number(
                environment, "FOREBAY_READ_AFTER_WAIT_SECONDS", DEFAULT_READ_AFTER_WAIT_SECONDS
            ),
            authorization=required(environment, "FOREBAY_AUTHORIZATION"),
            principals=environment.get("FOREBAY_PRINCIPALS", ""),
            read_cache=environment.get("FOREBAY_READ_CACHE", ""),
            attachments=Bucket.from_env(environment),
            cors_allow_origin=environment.get("FOREBAY_CORS_ALLOW_ORIGIN", ""),
            dotted_parameters=flag(environment, "FOREBAY_DOTTED_PARAMETERS", default=True),
        )
