"""Logins by IAM token: equal to botocore's tokens for the same credentials."""

from __future__ import annotations

import datetime as dt
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from unittest.mock import patch

import botocore.session
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from forebay.db import iam
from forebay.db.connect import iterate_logins
from forebay.errors import SettingsError
from forebay.signing import Credentials

NOW = dt.datetime(2026, 11, 21, 12, 34, 56, tzinfo=dt.UTC)
HOST = "forebay.cluster-ro-abc123.eu-west-1.rds.amazonaws.com"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPx"}
SESSION = "FwoGZXIvYXdzE/=+&:\\ with space~"


def _botocore(host: str, port: int, user: str, session_token: str | None) -> str:
    session = botocore.session.Session()
    session.set_credentials(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], session_token)
    client: Any = session.create_client("rds", region_name="us-east-1")
    moment = "botocore.auth.get_current_datetime"
    with patch(moment, lambda *_, **__: NOW.replace(tzinfo=None)):
        signed: str = client.generate_db_auth_token(host, port, user, Region="eu-west-1")
    return signed


def _parts(signed: str) -> tuple[str, dict[str, str]]:
    """Split a token into address and parameters; the signature does not cover their order."""
    address, _, query = signed.partition("?")
    return address, dict(part.split("=", 1) for part in query.split("&"))


@pytest.mark.parametrize("session_token", [None, SESSION])
@pytest.mark.parametrize("user", ["forebay_read", "odd user+é"])
def test_a_token_is_the_one_that_botocore_signs(user: str, session_token: str | None) -> None:
    credentials = Credentials(
        KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], session_token
    )

    ours = iam.token(
        host=HOST, port=5432, user=user, region="eu-west-1", credentials=credentials, now=NOW
    )

    assert _parts(ours) == _parts(_botocore(HOST, 5432, user, session_token))


@pytest.mark.parametrize(
    ("host", "region"),
    [
        (HOST, "eu-west-1"),
        ("db.abc.us-gov-west-1.rds.amazonaws.com", "us-gov-west-1"),
        ("db.abc.cn-north-1.rds.amazonaws.com.cn", "cn-north-1"),
        ("localhost", None),
        ("db.abc.eu-west-1.rds.amazonaws.com.example.org", None),
    ],
)
def test_the_region_is_that_of_the_endpoint(host: str, region: str | None) -> None:
    """A global database can have its reader and its writer in different regions."""
    assert iam.parse_region(host) == region


def test_a_host_of_rds_is_logged_in_to_with_a_token() -> None:
    (attempt,) = iterate_logins(f"postgresql://reader@{HOST}/forebay", environment=KEYS)

    stated = conninfo_to_dict(attempt)
    assert (stated["host"], stated["port"], stated["user"]) == (HOST, "5432", "reader")
    address, signed = _parts(str(stated["password"]))
    assert address == f"{HOST}:5432/"
    assert (signed["DBUser"], signed["X-Amz-Expires"]) == ("reader", "900")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://forebay:secret@127.0.0.1:8083,127.0.0.1:8084/forebay",
        "postgresql://forebay@db.internal/forebay",
        f"postgresql://forebay:secret@{HOST}/forebay",
    ],
)
def test_any_other_address_is_left_to_libpq(url: str) -> None:
    assert list(iterate_logins(url, environment={})) == [url]


def test_each_host_is_tried_with_a_token_of_its_own_and_standbys_first() -> None:
    one, two = f"one.{HOST}", f"two.{HOST}"
    url = (
        f"postgresql://reader@{one}:5432,{two}:5433/forebay"
        "?target_session_attrs=prefer-standby&load_balance_hosts=random&sslmode=verify-full"
    )

    attempts = [conninfo_to_dict(attempt) for attempt in iterate_logins(url, environment=KEYS)]

    assert [parameters["target_session_attrs"] for parameters in attempts] == ["standby"] * 2 + [
        "any"
    ] * 2
    for half in (attempts[:2], attempts[2:]):
        assert {(parameters["host"], parameters["port"]) for parameters in half} == {
            (one, "5432"),
            (two, "5433"),
        }
    for parameters in attempts:
        assert str(parameters["password"]).startswith(
            f"{parameters['host']}:{parameters['port']}/?"
        )
        assert parameters["sslmode"] == "verify-full"
        assert "load_balance_hosts" not in parameters


def test_hosts_take_turns_at_being_first() -> None:
    url = (
        f"postgresql://reader@one.{HOST},two.{HOST}/forebay"
        "?target_session_attrs=prefer-standby&load_balance_hosts=random"
    )

    first = set()
    for _ in range(64):
        random.seed(1)  # equal in all functions that are restored from one snapshot
        first.add(conninfo_to_dict(next(iterate_logins(url, environment=KEYS)))["host"])

    assert first == {f"one.{HOST}", f"two.{HOST}"}


def test_missing_credentials_are_named() -> None:
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID"):
        next(iterate_logins(f"postgresql://reader@{HOST}/forebay", environment={}))


def test_an_address_without_a_user_is_refused() -> None:
    with pytest.raises(SettingsError, match="has no user"):
        next(iterate_logins(f"postgresql://{HOST}/forebay", environment=KEYS))


@contextmanager
def _lambda_gives(status: int, content: bytes) -> Iterator[str]:
    """Serve the endpoint at which a function restored from a snapshot fetches its credentials."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers["Authorization"] == "secret"
            self.send_response(status if allowed else 403)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/2021-04-23/credentials"
        server.shutdown()
        thread.join()


def _restored(address: str) -> dict[str, str]:
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": address,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "secret",
    }


def test_a_restored_function_fetches_its_credentials() -> None:
    """AWS_ACCESS_KEY_ID and the related variables do not exist there."""
    given = {"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": "…"}
    with _lambda_gives(200, json.dumps(given).encode()) as address:
        assert iam.current_credentials(_restored(address)) == Credentials("A", "S", "T")


@pytest.mark.parametrize(("status", "content"), [(500, b"{}"), (200, b"{}"), (200, b"<html>")])
def test_credentials_that_can_not_be_fetched_are_a_failed_login(
    status: int, content: bytes
) -> None:
    """A failed login is transient: the answer is 503, or the message is delivered again."""
    with (
        _lambda_gives(status, content) as address,
        pytest.raises(psycopg.OperationalError, match="no AWS credentials from"),
    ):
        iam.current_credentials(_restored(address))


def test_signing_imports_no_sdk() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, forebay.db.connect; print('botocore' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert loaded.stdout == "False\n"
