"""Logins without passwords: IAM tokens that RDS and ElastiCache accept if the role allows it.

A token is a URL, signed for one host, port and user, and valid for 15 minutes (Amazon RDS user
guide, "Connecting to your DB instance using IAM authentication"). Signing it needs no request and
no AWS SDK, whose import would take longer than the rest of the read function's start; tests compare
the result with botocore's.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlencode, urlsplit

from psycopg import OperationalError

from forebay.errors import SettingsError

TOKEN_SECONDS = 900  # the longest time that RDS accepts

# cluster-name.cluster-ro-hash.eu-west-1.rds.amazonaws.com; in China .com.cn
_RDS_HOST = re.compile(r"\.(?P<region>[a-z0-9-]+)\.rds\.amazonaws\.com(?:\.cn)?$")
_ALGORITHM = "AWS4-HMAC-SHA256"
_NO_BODY = hashlib.sha256(b"").hexdigest()
_CREDENTIALS_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials that sign requests to AWS."""

    access_key: str
    secret_key: str
    session_token: str | None

    @classmethod
    def current(cls, environment: Mapping[str, str]) -> Self:
        """The process's credentials, from its variables or from the address that they name.

        A function that Lambda restored from a snapshot has an address, because keys in variables
        would be those of the snapshot (Lambda developer guide, "SnapStart").

        Raises:
            SettingsError: the variables contain neither.
            psycopg.OperationalError: the address gave no credentials.
        """
        address = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        if address:
            return cls._fetch_from(
                address, environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
            )
        try:
            access_key = environment["AWS_ACCESS_KEY_ID"]
            secret_key = environment["AWS_SECRET_ACCESS_KEY"]
        except KeyError as missing:
            raise SettingsError(
                f"the database requires an IAM token, but the variable {missing} is not set; "
                "`aws configure export-credentials --format env` prints it"
            ) from missing
        return cls(access_key, secret_key, environment.get("AWS_SESSION_TOKEN") or None)

    @classmethod
    def _fetch_from(cls, address: str, authorization: str) -> Self:
        try:
            document = json.loads(_fetch(address, authorization))
            return cls(document["AccessKeyId"], document["SecretAccessKey"], document["Token"])
        except (OSError, http.client.HTTPException, ValueError, KeyError) as exc:
            raise OperationalError(f"no AWS credentials from {address}: {exc!r}") from exc


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
    moment = now.astimezone(dt.UTC)
    stamp, scope = f"{moment:%Y%m%dT%H%M%SZ}", f"{moment:%Y%m%d}/{region}/{service}/aws4_request"
    parameters = {
        **request,
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(TOKEN_SECONDS),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.session_token is not None:
        parameters["X-Amz-Security-Token"] = credentials.session_token
    query = urlencode(sorted(parameters.items()), quote_via=quote, safe="-_.~")
    canonical = f"GET\n/\n{query}\nhost:{place}\n\nhost\n{_NO_BODY}"
    signature = _sign(credentials.secret_key, stamp, scope, canonical)
    return f"{place}/?{query}&X-Amz-Signature={signature}"


def _sign(secret_key: str, stamp: str, scope: str, request: str) -> str:
    """The AWS Signature Version 4 of a canonical request."""
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    hashed = hashlib.sha256(request.encode()).hexdigest()
    return hmac.digest(key, f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashed}".encode(), "sha256").hex()


def _fetch(address: str, authorization: str) -> bytes:
    """Fetch from Lambda's own address, on the same machine, which uses plain HTTP."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port, timeout=_CREDENTIALS_TIMEOUT_SECONDS
    )
    try:
        connection.request("GET", parts.path, headers={"Authorization": authorization})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"status {answer.status}")
        return answer.read()
    finally:
        connection.close()
