"""Logins without passwords: IAM tokens that RDS and ElastiCache accept if the role allows it.

A token is a URL, signed for one host, port and user, and valid for 15 minutes (Amazon RDS user
guide, "Connecting to your DB instance using IAM authentication").
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping

from psycopg import OperationalError

from forebay.errors import TransientError
from forebay.signing import Credentials, Signer

TOKEN_SECONDS = 900  # the longest time that RDS accepts

# cluster-name.cluster-ro-hash.eu-west-1.rds.amazonaws.com; in China .com.cn
_RDS_HOST = re.compile(r"\.(?P<region>[a-z0-9-]+)\.rds\.amazonaws\.com(?:\.cn)?$")


def current_credentials(environment: Mapping[str, str]) -> Credentials:
    """The process's credentials, as `Credentials.current` finds them.

    Raises:
        forebay.errors.SettingsError: there are none.
        psycopg.OperationalError: they can't be fetched at present.
    """
    try:
        return Credentials.current(environment)
    except TransientError as exc:
        raise OperationalError(str(exc)) from exc


def parse_region(host: str) -> str | None:
    """The region of an RDS endpoint; None for any other host, which has no IAM tokens."""
    match = _RDS_HOST.search(host)
    return match["region"] if match else None


def token(
    *, host: str, port: int, user: str, region: str, credentials: Credentials, now: dt.datetime
) -> str:
    """The user's password for the database's host during the next 15 minutes."""
    return presign(
        f"{host}:{port}",
        {"Action": "connect", "DBUser": user},
        service="rds-db",
        region=region,
        credentials=credentials,
        now=now,
    )


def presign(
    place: str,
    request: Mapping[str, str],
    *,
    service: str,
    region: str,
    credentials: Credentials,
    now: dt.datetime,
) -> str:
    """A signed GET of `place`, without its scheme; valid for 15 minutes.

    Args:
        place: the host that the request names.
        request: its parameters.
        service: AWS's name of the service that checks it.
        region: the service's region.
        credentials: sign it.
        now: begins its validity.
    """
    signer = Signer(service, region, credentials)
    return signer.presign(place, request, now=now, seconds=TOKEN_SECONDS)
