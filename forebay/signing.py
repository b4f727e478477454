"""AWS Signature Version 4 without the SDK: its import would take longer than a function's start.

It signs addresses and forms that someone else sends: the token of a login, the download of an
object, the form of an upload. Signing needs no request; tests compare the results with botocore's.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, urlencode, urlsplit

from forebay.errors import SettingsError, TransientError

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_NO_BODY: Final = hashlib.sha256(b"").hexdigest()
_CREDENTIALS_TIMEOUT_SECONDS: Final = 2.0


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
            TransientError: the address gave no credentials.
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
                f"AWS credentials are required, but the variable {missing} is not set; "
                "`aws configure export-credentials --format env` prints it"
            ) from missing
        return cls(access_key, secret_key, environment.get("AWS_SESSION_TOKEN") or None)

    @classmethod
    def _fetch_from(cls, address: str, authorization: str) -> Self:
        try:
            document = json.loads(_fetch(address, authorization))
            return cls(document["AccessKeyId"], document["SecretAccessKey"], document["Token"])
        except (OSError, http.client.HTTPException, ValueError, KeyError) as exc:
            raise TransientError(f"no AWS credentials from {address}: {exc!r}") from exc


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs for one service in one region, with the same credentials."""

    service: str
    region: str
    credentials: Credentials

    def presign(
        self,
        place: str,
        request: Mapping[str, str],
        *,
        now: dt.datetime,
        seconds: int,
        path: str = "/",
        body_hash: str = _NO_BODY,
    ) -> str:
        """A signed GET of `place`, without its scheme.

        Args:
            place: the host that the request names.
            request: its parameters.
            now: begins its validity.
            seconds: the length of its validity.
            path: percent-encoded, as sent.
            body_hash: the hash of the request's body, as the service expects it.
        """
        stamp, scope = self._format_time(now)
        parameters = {
            **request,
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"{self.credentials.access_key}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
        }
        if self.credentials.session_token is not None:
            parameters["X-Amz-Security-Token"] = self.credentials.session_token
        query = urlencode(sorted(parameters.items()), quote_via=quote, safe="-_.~")
        canonical = f"GET\n{path}\n{query}\nhost:{place}\n\nhost\n{body_hash}"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        signature = self._sign(scope, f"{ALGORITHM}\n{stamp}\n{scope}\n{hashed}")
        return f"{place}{path}?{query}&X-Amz-Signature={signature}"

    def sign_form(
        self,
        fields: Mapping[str, str],
        conditions: Sequence[Sequence[str | int]],
        *,
        now: dt.datetime,
        expires: dt.datetime,
    ) -> dict[str, str]:
        """The fields of a form that S3 accepts with exactly these values and conditions.

        Args:
            fields: their values are conditions.
            conditions: in addition, in the notation of POST policies.
            now: the time of the signature.
            expires: the end of its validity.
        """
        stamp, scope = self._format_time(now)
        signed = {
            **fields,
            "x-amz-algorithm": ALGORITHM,
            "x-amz-credential": f"{self.credentials.access_key}/{scope}",
            "x-amz-date": stamp,
        }
        if self.credentials.session_token is not None:
            signed["x-amz-security-token"] = self.credentials.session_token
        policy = {
            "expiration": f"{expires.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
            "conditions": [*({name: value} for name, value in signed.items()), *conditions],
        }
        encoded = base64.b64encode(json.dumps(policy).encode()).decode()
        return {**signed, "policy": encoded, "x-amz-signature": self._sign(scope, encoded)}

    def _format_time(self, now: dt.datetime) -> tuple[str, str]:
        """The time of a signature, and its scope."""
        moment = now.astimezone(dt.UTC)
        scope = f"{moment:%Y%m%d}/{self.region}/{self.service}/aws4_request"
        return f"{moment:%Y%m%dT%H%M%SZ}", scope

    def _sign(self, scope: str, text: str) -> str:
        key = f"AWS4{self.credentials.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()


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
