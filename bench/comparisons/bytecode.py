"""Cold starts from the packages for AWS, with and without bytecode.

The conditions are Lambda's: the runtime's Python, packages that are not writable, and boto3 outside
of them with cached bytecode. The dependencies are those for this machine instead of the runtime's.
The measured time begins when Python has started, and ends when the function could take a request.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from bench.harness import Contender, Findings, duration, measure
from bench.stage import Stage
from infra.bundling import PYTHON_VERSION, build_asset
from infra.bytecode import Compiler, NoCompiler, find_compiler
from infra.settings import PackageName

ROUNDS = 15
FUNCTIONS: tuple[PackageName, ...] = ("write", "read", "consumer")
WITH, WITHOUT = "with bytecode", "without"

_TIMED = """
import time
started = time.perf_counter()
import lambdas.{}.handler
print(time.perf_counter() - started)
"""
_RUNTIME = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six.py", "urllib3")
_ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "FOREBAY_ENV": "bench",
    "FOREBAY_STREAMS": "commands",
    "FOREBAY_ARCHIVE_BUCKET": "archive",
    "FOREBAY_DATABASE_URL": "postgresql://forebay@127.0.0.1/forebay",
    "FOREBAY_REPLICA_URL": "postgresql://forebay@127.0.0.1/forebay",
    "FOREBAY_AUTHORIZATION": "none",
}


def compare(stage: Stage) -> Findings:
    """Measure fresh processes in sequence.

    Raises:
        SystemExit: the machine has no Python of the runtime's version.
    """
    compiler = find_compiler(PYTHON_VERSION)
    if isinstance(compiler, NoCompiler):
        raise SystemExit(f"needs Python {PYTHON_VERSION}: {compiler.reason}")
    runtime = _copy_runtime(compiler, stage.folder / "runtime")
    contenders = []
    for function in FUNCTIONS:
        sources, compiled = _build_packages(function, stage.folder)
        for kind, package in ((WITHOUT, sources), (WITH, compiled)):
            program = _TIMED.format(function)
            environment = {**_ENVIRONMENT, "PYTHONPATH": f"{package}{os.pathsep}{runtime}"}
            contenders.append(
                Contender(
                    f"{function}, {kind}",
                    lambda program=program, environment=environment: _time_process(  # type: ignore[misc]
                        compiler.python, program, environment, stage.folder
                    ),
                    1,
                )
            )
    series = measure(contenders, rounds=stage.rounds(ROUNDS), warm_up=True)
    findings = Findings(series)
    findings.ratios = [
        duration(
            f"{function} function, cold, {WITH}",
            series,
            f"{function}, {WITH}",
            f"{function}, {WITHOUT}",
        )
        for function in FUNCTIONS
    ]
    findings.facts["python_of_the_runtime"] = _read_version(compiler)
    findings.facts["milliseconds_at_best"] = {
        timing.name: round(1000 * min(timing.seconds)) for timing in series
    }
    return findings


def _build_packages(function: PackageName, folder: Path) -> tuple[Path, Path]:
    """The function's package without and with bytecode."""
    sources, compiled = folder / f"{function}-bare", folder / f"{function}-compiled"
    build_asset(
        function,
        compiled,
        with_dependencies=True,
        platform=f"{platform.machine()}-manylinux_2_28",
    )
    shutil.copytree(compiled, sources, ignore=shutil.ignore_patterns("__pycache__"))
    return sources, compiled


def _copy_runtime(compiler: Compiler, folder: Path) -> Path:
    """The packages that Lambda's runtime contains, with bytecode."""
    installed = Path(sysconfig.get_path("purelib"))
    for name in _RUNTIME:
        source = installed / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / name)
    compiler.compile(folder)
    return folder


def _read_version(compiler: Compiler) -> str:
    command = [compiler.python, "-S", "-c", "import platform; print(platform.python_version())"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return process.stdout.strip()


def _time_process(python: str, program: str, environment: Mapping[str, str], folder: Path) -> float:
    process = subprocess.run(  # noqa: S603 - our own programs
        [python, "-S", "-c", program],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(process.stdout.splitlines()[-1])
