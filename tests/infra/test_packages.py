"""The packages for AWS: their distributions, their sizes, and that they start by themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from infra.bundling import PACKAGES, PLATFORM, PYTHON_VERSION, TOOL, build_asset, stage_asset
from infra.bytecode import NEVER_IMPORTED
from infra.settings import PackageName
from tests.infra.runtime import RUNTIME, link, start, variables
from tests.infra.templates import Synthesised

#: Distributions in the package besides the project's code; the runtime provides boto3.
_CORE = {"annotated_types", "orjson", "pydantic", "pydantic_core", "typing_extensions",
         "typing_inspection"}  # fmt: skip
_POSTGRES = {"psycopg", "psycopg_binary"}
CARRIED: dict[PackageName, set[str]] = {
    "write": _CORE | {"jiter"},
    "imports": _CORE | {"jiter"},
    "read": _CORE | _POSTGRES | {"libvalkey"},
    "about": _CORE | _POSTGRES | {"jiter"},
    "consumer": _CORE | _POSTGRES | {"libvalkey", "msgspec"},
    "sweep": _CORE | _POSTGRES | {"libvalkey", "msgspec"},
    "migrate": _CORE | _POSTGRES | {"alembic", "libvalkey", "mako", "markupsafe", "sqlalchemy"},
}
#: Unpacked sizes, because the amount of data to load determines a cold start.
LIMITS_MEBIBYTES: dict[PackageName, int] = {
    "write": 15,
    "imports": 15,
    "read": 30,
    "about": 30,
    "consumer": 30,
    "sweep": 30,
    "migrate": 55,
}


@pytest.fixture(scope="module")
def built() -> dict[PackageName, Path]:
    """Every package, as built for Lambda."""
    return {name: stage_asset(name, with_dependencies=True) for name in PACKAGES}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_carries_its_own_dependencies_and_no_other(
    built: dict[PackageName, Path], name: PackageName
) -> None:
    packages = {
        folder.name.removesuffix(".dist-info").rpartition("-")[0].lower()
        for folder in built[name].glob("*.dist-info")
    }
    assert packages == CARRIED[name]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_stays_small(built: dict[PackageName, Path], name: PackageName) -> None:
    size = sum(file.stat().st_size for file in built[name].rglob("*") if file.is_file())

    assert size <= LIMITS_MEBIBYTES[name] * 1024 * 1024, f"{size / 1024 / 1024:.1f} MiB"


@pytest.mark.parametrize("name", PACKAGES)
def test_everything_compiled_is_for_the_runtime(
    built: dict[PackageName, Path], name: PackageName
) -> None:
    """A library for another architecture would fail only at the first call."""
    assert PLATFORM.startswith("aarch64")
    tag = PYTHON_VERSION.replace(".", "")
    for file in built[name].rglob("*.so"):
        header = file.read_bytes()[:20]
        assert header[:4] == b"\x7fELF"
        assert int.from_bytes(header[18:20], "little") == 183, file  # EM_AARCH64
        if ".cpython-" in file.name:
            assert f".cpython-{tag}-aarch64" in file.name


def test_modules_without_bytecode_are_in_the_packages(built: dict[PackageName, Path]) -> None:
    """A name that no package contains any more must leave the list."""
    for name in NEVER_IMPORTED:
        assert any(
            (package / name).is_dir() or (package / f"{name}.py").is_file()
            for package in built.values()
        ), name


@pytest.mark.parametrize("name", PACKAGES)
def test_a_function_starts_where_nothing_else_is_installed(
    local: Synthesised, tmp_path: Path, name: PackageName
) -> None:
    """Undeclared imports succeed in every checkout, and fail on Lambda."""
    build_asset(name, tmp_path / "package", with_dependencies=False)
    installed = link(CARRIED[name] | RUNTIME, tmp_path / "installed")

    process = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start(name, tmp_path / "package", installed)],
        cwd=tmp_path,
        env=variables(local, name),
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 0, process.stderr
    assert Path(process.stdout.splitlines()[-1]).is_relative_to(tmp_path / "package")


def test_the_operators_tool_starts_where_nothing_else_is_installed(tmp_path: Path) -> None:
    """The runner has no way to the internet, from which it could install a missing module."""
    distributions = {
        folder.name.removesuffix(".dist-info").rpartition("-")[0]
        for folder in stage_asset(TOOL, with_dependencies=True).glob("*.dist-info")
    }
    build_asset(TOOL, tmp_path / "package", with_dependencies=False)
    paths = [str(tmp_path / "package"), str(link(distributions, tmp_path / "installed"))]
    program = (
        f"import sys; sys.path[:0] = {paths!r}; import boto3, lambdas.migrate.app; "
        "import ops.remote.entry, ops.cli; sys.exit(ops.cli.run(['cost', '--env', 'dev']))"
    )

    process = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 0, process.stderr
    assert "US dollars per month" in process.stdout
