"""Bytecode in the packages: made for the runtime's Python, reproducible, and used."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Annotations, Match

from forebay.errors import SettingsError
from infra.app import build_app
from infra.bundling import PACKAGES, PYTHON_VERSION, build_asset, compute_asset_hash
from infra.bytecode import NEVER_IMPORTED, Compiler, NoCompiler, find_compiler
from infra.settings import PackageName, Settings
from tests.infra.runtime import RUNTIME, link, start, variables
from tests.infra.templates import LOCAL_CONTEXT, ROOT, Synthesised

UNCHECKED_HASH = 0b01  # PEP 552

_ABOUT_BYTECODE = Match.string_like_regexp("bytecode")
#: Reports the properties of each bytecode file, as read by the runtime's Python.
_LOOK = """
import importlib.util, json, marshal, sys
from pathlib import Path

def names(code):
    yield code.co_filename
    for constant in code.co_consts:
        if hasattr(constant, "co_filename"):
            yield from names(constant)

found = {}
for file in Path(sys.argv[1]).rglob("*.pyc"):
    source = Path(importlib.util.source_from_cache(file))
    content = file.read_bytes()
    found[source.relative_to(sys.argv[1]).as_posix()] = {
        "is_readable": content[:4] == importlib.util.MAGIC_NUMBER,
        "flags": int.from_bytes(content[4:8], "little"),
        "is_of_source": content[8:16] == importlib.util.source_hash(source.read_bytes()),
        "cached": str(file) == importlib.util.cache_from_source(source),
        "names": sorted(set(names(marshal.loads(content[16:])))),
    }
print(json.dumps(found))
"""


@pytest.fixture
def compiler() -> Compiler:
    """An installed Python of the runtime's version."""
    python = find_compiler(PYTHON_VERSION)
    if isinstance(python, NoCompiler):
        pytest.skip(f"needs Python {PYTHON_VERSION}: {python.reason}")
    return python


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NoCompiler]:
    """Hide every Python of the runtime's version: the folders that uv searches are empty."""
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    monkeypatch.chdir(nothing)
    monkeypatch.setenv("PATH", str(nothing))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(nothing))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as the CDK CLI does
    find_compiler.cache_clear()
    python = find_compiler(PYTHON_VERSION)
    assert isinstance(python, NoCompiler)
    assert python.reason.startswith("No interpreter found")
    yield python
    find_compiler.cache_clear()


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    """The write function's package, as deployed to AWS."""
    folder = tmp_path / "package"
    build_asset("write", folder, with_dependencies=True)
    return folder


def test_all_that_may_be_imported_has_bytecode_for_the_runtime(
    compiler: Compiler, bundled: Path
) -> None:
    modules = _look(compiler, bundled)

    assert set(modules) == {
        name
        for name in _names(bundled, "*.py")
        if not any(
            name == f"{pattern}.py" or name.startswith(f"{pattern}/") for pattern in NEVER_IMPORTED
        )
    }
    for name, about in modules.items():
        assert about["cached"], name
        assert about["is_readable"], name
        assert about["is_of_source"], name
        assert about["flags"] == UNCHECKED_HASH, name


def test_bytecode_names_its_source_as_lambda_does(compiler: Compiler, bundled: Path) -> None:
    for name, about in _look(compiler, bundled).items():
        assert about["names"] == [f"/var/task/{name}"]
    for file in bundled.rglob("*.pyc"):
        content = file.read_bytes()
        assert not any(str(path).encode() in content for path in (bundled, ROOT)), file


def test_the_same_sources_make_the_same_bytecode(
    compiler: Compiler, bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Independent of the folder's name and of Python variables in the user's shell."""
    other = tmp_path / "with a longer name" / "package"
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "elsewhere"))
    build_asset("write", other, with_dependencies=True)

    assert _names(other, "*.pyc")
    assert _names(other, "*") == _names(bundled, "*")
    for name in _names(other, "*.pyc"):
        assert (other / name).read_bytes() == (bundled / name).read_bytes(), name


def test_bytecode_is_part_of_the_hash(
    compiler: Compiler, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a package built without a compiler would never be built again with bytecode."""
    before = _hashes()
    with monkeypatch.context() as patch:
        patch.setattr("infra.bundling.RECIPE", "another")
        assert _hashes()["bundled"] != before["bundled"]
    request.getfixturevalue("no_compiler")
    without = _hashes()

    assert without["bundled"] != before["bundled"]
    assert without["sources"] == before["sources"]


def test_without_the_runtimes_python_there_is_no_bytecode(
    no_compiler: NoCompiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version's bytecode is useless, even if the user's uv is configured to make it."""
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "1")
    build_asset("write", tmp_path / "package", with_dependencies=True)

    assert _names(tmp_path / "package", "*.pyc") == []
    assert (tmp_path / "package" / "lambdas" / "write" / "handler.py").is_file()


@pytest.mark.parametrize("name", ["dev", "local"])
def test_packages_without_bytecode_are_warned_of_where_they_go_to_aws(
    no_compiler: NoCompiler,
    monkeypatch: pytest.MonkeyPatch,
    flags: Mapping[str, Any],
    package: Path,
    name: str,
) -> None:
    warnings = _warnings(name, monkeypatch, flags, package)

    if name == "local":
        warnings.has_no_warning("*", _ABOUT_BYTECODE)
    else:
        warnings.has_warning("*", Match.string_like_regexp(re.escape(no_compiler.reason)))
        warnings.has_warning("*", Match.string_like_regexp(f"`uv python install {PYTHON_VERSION}`"))


def test_packages_with_bytecode_are_not_warned_of(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch, flags: Mapping[str, Any], package: Path
) -> None:
    _warnings("dev", monkeypatch, flags, package).has_no_warning("*", _ABOUT_BYTECODE)


@pytest.mark.parametrize(
    ("program", "reason"),
    [("", "is cpython-"), ("; exit 3", "can't be run: out of order")],
)
def test_a_python_that_cant_be_used_is_not_taken(
    no_compiler: NoCompiler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    reason: str,
) -> None:
    """uv reports a pre-release like its release, but the bytecode may differ."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{'echo out of order >&2' + program if program else ''}\n")
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\necho {python if program else sys.executable}\n")
    for file in (python, uv):
        file.chmod(0o755)
    monkeypatch.setattr("infra.bytecode.find_uv_bin", lambda: str(uv))
    find_compiler.cache_clear()

    path = find_compiler("3.0")
    assert isinstance(path, NoCompiler)
    assert reason in path.reason


def test_a_source_that_is_none_ends_the_build(compiler: Compiler, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("def :\n")

    with pytest.raises(SettingsError, match=r"module\.py.*SyntaxError"):
        compiler.compile(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="the dependencies are built for Linux here")
@pytest.mark.parametrize("name", PACKAGES)
def test_a_function_starts_from_bytecode_alone(
    compiler: Compiler, local: Synthesised, tmp_path: Path, name: PackageName
) -> None:
    """The package is read-only, and compiling any source raises an error."""
    package = tmp_path / "package"
    machine = f"{platform.machine()}-manylinux_2_28"
    build_asset(name, package, with_dependencies=True, platform=machine)
    for file in package.rglob("*.py"):
        file.write_text("raise AssertionError('compiled anew: ' + __file__)")
    before = _names(package, "*")
    _make_read_only(package)

    process = subprocess.run(
        [compiler.python, "-S", "-c", start(name, package, link(RUNTIME, tmp_path / "runtime"))],
        cwd=tmp_path,
        env={**variables(local, name), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 0, process.stderr
    assert Path(process.stdout.splitlines()[-1]) == package / "lambdas" / name / "handler.py"
    assert _names(package, "*") == before


def _look(compiler: Compiler, package: Path) -> dict[str, Any]:
    process = subprocess.run(
        [compiler.python, "-I", "-S", "-c", _LOOK, str(package)],
        capture_output=True,
        text=True,
        check=True,
    )
    document: dict[str, Any] = json.loads(process.stdout)
    return document


def _names(package: Path, pattern: str) -> list[str]:
    return sorted(file.relative_to(package).as_posix() for file in package.rglob(pattern))


def _hashes() -> dict[str, str]:
    return {
        "bundled": compute_asset_hash("write", with_dependencies=True),
        "sources": compute_asset_hash("write", with_dependencies=False),
    }


def _warnings(
    name: str, monkeypatch: pytest.MonkeyPatch, flags: Mapping[str, Any], package: Path
) -> Annotations:
    """The warnings of an environment's synthesis; packages are not built."""
    monkeypatch.setattr("infra.app.stage_asset", lambda _name, **_: package)
    settings = Settings.load(name, LOCAL_CONTEXT if name == "local" else {})
    app = build_app(settings, app=cdk.App(context=dict(flags)))
    service = app.node.find_child(f"{settings.prefix}-service")
    assert isinstance(service, cdk.Stack)
    return Annotations.from_stack(service)


def _make_read_only(package: Path) -> None:
    for path in (package, *package.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
