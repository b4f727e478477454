"""The tool adds the certificates of RDS to the address of a database that needs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from forebay.db.connect import iterate_logins
from infra.bundling import CERTIFICATES
from infra.components.database_servers import CERTIFICATES as PATH_OF_FUNCTIONS
from infra.components.database_servers import format_for_operators
from ops import certificates
from ops.certificates import add_certificates
from ops.context import DATABASE, Context
from ops.errors import UsageError

HOST = "db.abc.eu-west-1.rds.amazonaws.com"
URL = f"postgresql://forebay_write@{HOST}:5432/forebay?sslmode=verify-full"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A file of certificates with characters in its path that a URL escapes."""
    file = tmp_path / "a folder" / "bundle.pem"
    file.parent.mkdir()
    file.write_text("")
    return file


@pytest.mark.parametrize(
    "url", [URL, f"host={HOST} user=forebay_write dbname=forebay sslmode=verify-full"]
)
def test_a_verified_server_of_rds_gets_the_file(url: str, bundle: Path) -> None:
    parameters = conninfo_to_dict(add_certificates(url, {}, bundle))

    assert parameters.pop("sslrootcert") == str(bundle)
    assert parameters == conninfo_to_dict(url)


def test_a_login_with_a_token_keeps_the_file(bundle: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}

    (attempt,) = iterate_logins(add_certificates(URL, {}, bundle), environment=keys)
    assert conninfo_to_dict(attempt)["sslrootcert"] == str(bundle)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://forebay@127.0.0.1:5432/forebay?sslmode=verify-full",
        f"postgresql://forebay@{HOST}/forebay",
        f"postgresql://forebay@{HOST}/forebay?sslmode=require",
        f"{URL}&sslrootcert=/etc/mine.pem",
        f"postgresql://forebay@example.com/{HOST}?sslmode=verify-full",
    ],
)
def test_any_other_address_is_unchanged(url: str, bundle: Path) -> None:
    assert add_certificates(url, {}, bundle) == url


def test_the_file_of_the_variable_has_precedence(bundle: Path) -> None:
    assert add_certificates(URL, {"PGSSLROOTCERT": "/etc/mine.pem"}, bundle) == URL


def test_a_missing_file_is_named_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.pem; .*PGSSLROOTCERT"):
        add_certificates(URL, {}, tmp_path / "missing.pem")


def test_every_place_of_an_address_gets_the_file(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "BUNDLE", bundle)
    by_option = Context({DATABASE: URL}, environment={})
    by_variable = Context({}, environment={"FOREBAY_DATABASE_URL": URL})

    for context in (by_option, by_variable):
        assert conninfo_to_dict(context.get(DATABASE))["sslrootcert"] == str(bundle)


def test_the_synthesis_writes_the_file_that_the_tool_reads() -> None:
    assert certificates.BUNDLE.name == CERTIFICATES
    assert certificates.BUNDLE.parent.name == ".build"


@pytest.mark.parametrize(
    ("functions", "operators"),
    [
        (f"{URL}&sslrootcert={PATH_OF_FUNCTIONS}", URL),
        (
            f"postgresql://h/d?sslrootcert={PATH_OF_FUNCTIONS}&sslmode=verify-ca",
            "postgresql://h/d?sslmode=verify-ca",
        ),
        (f"postgresql://h/d?sslrootcert={PATH_OF_FUNCTIONS}", "postgresql://h/d"),
        (
            "postgresql://h/d?sslrootcert=/etc/mine.pem",
            "postgresql://h/d?sslrootcert=/etc/mine.pem",
        ),
        ("postgresql://h/d", "postgresql://h/d"),
    ],
)
def test_the_path_of_the_functions_is_left_out_for_operators(
    functions: str, operators: str
) -> None:
    assert format_for_operators(functions) == operators
