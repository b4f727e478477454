"""The address of the read cache, and its login by IAM token."""

from __future__ import annotations

import datetime as dt
from unittest.mock import patch

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from forebay.errors import SettingsError
from forebay.read_cache.address import Address
from forebay.read_cache.link import sign_token
from forebay.read_cache.positions import Position
from forebay.read_cache.reader import Claim

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
DEPLOYED = (
    "valkeys://forebay-prod@master.forebay-prod.abc.use1.cache.amazonaws.com:6379/"
    "?cache=forebay-prod&region=us-east-1"
)


def test_an_address_names_the_server_and_its_login() -> None:
    host = "master.forebay-prod.abc.use1.cache.amazonaws.com"
    assert Address.parse(DEPLOYED) == Address(
        host, 6379, tls=True, user="forebay-prod", cache="forebay-prod", region="us-east-1"
    )
    assert Address.parse("valkey://default:x@127.0.0.1:8085") == Address(
        "127.0.0.1", 8085, user="default", password="x"
    )
    assert Address.parse("valkey://127.0.0.1:8085") == Address("127.0.0.1", 8085)
    assert Address.parse("") is None


@pytest.mark.parametrize(
    "text",
    [
        "redis://127.0.0.1:1",
        "valkey://",
        "valkey://user@host",
        "valkey://host?cache=a&region=b",
        "valkeys://user@host?cache=a",
        "valkey://host:port",
        "127.0.0.1:6379",
        "valkey://:secret@host",
    ],
)
def test_any_other_text_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(SettingsError, match=r"FOREBAY_READ_CACHE=.* is no address") as refused:
        Address.parse(text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("session_token", [None, "a/token+="])
def test_a_token_is_the_one_that_botocore_signs(session_token: str | None) -> None:
    address = Address.parse(DEPLOYED)
    assert address is not None
    now = dt.datetime(2026, 11, 30, 12, 0, 0, tzinfo=dt.UTC)
    variables = {**KEYS, **({"AWS_SESSION_TOKEN": session_token} if session_token else {})}
    with patch("forebay.read_cache.link.dt", wraps=dt) as clock:
        clock.datetime.now.return_value = now
        clock.UTC = dt.UTC
        ours = sign_token(address, variables)

    request = AWSRequest("GET", "https://forebay-prod/?Action=connect&User=forebay-prod")
    credentials = Credentials(
        KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], session_token
    )
    moment = "botocore.auth.get_current_datetime"
    with patch(moment, lambda *_, **__: now.replace(tzinfo=None)):
        SigV4QueryAuth(credentials, "elasticache", "us-east-1", expires=900).add_auth(request)
    assert _parts(ours) == _parts(str(request.url).removeprefix("https://"))


def _parts(token: str) -> tuple[str, dict[str, str]]:
    address, _, query = token.partition("?")
    return address, dict(part.split("=", 1) for part in query.split("&"))


@pytest.mark.parametrize(
    ("shown", "is_proven"),
    [
        (Position("1:1", 8), True),
        (Position("1:1", 7), False),
        (Position("1:2", 9), False),
        (Position("2:1", 9), False),
    ],
)
def test_only_a_later_position_of_the_same_history_proves_an_answer(
    shown: Position, *, is_proven: bool
) -> None:
    """After a failover to another timeline, ids of transactions are assigned again."""
    claim = Claim("run", b"key", b"tokens", Position("1:1", 7))
    assert claim.is_proven_by(shown) is is_proven


def test_credentials_are_needed_for_a_token() -> None:
    address = Address.parse(DEPLOYED)
    assert address is not None
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID"):
        sign_token(address, {})
