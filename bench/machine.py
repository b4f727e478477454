"""The conditions of a figure: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import psutil

from local.settings import ROOT

_LOOK_SECONDS = 0.02
_PACKAGES = (
    *(
        "awswrangler",
        "boto3",
        "botocore",
        "dlt",
        "fastapi",
        "jiter",
        "orjson",
        "aws-lambda-powertools",
    ),
    *("psycopg", "psycopg-binary", "pydantic", "pydantic-core", "sqlalchemy"),
)


def describe() -> dict[str, Any]:
    """The properties of the machine that affect speed."""
    return {
        "cpu": _read_cpu_name(),
        "cores": os.cpu_count(),
        "memory_gibibytes": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the measured packages."""
    numbers = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            numbers[name] = version(name)
        except PackageNotFoundError:
            continue
    return numbers


def commit() -> str:
    """The measured commit, with `+` if the work tree differs."""
    revision = _run_git("rev-parse", "--short=12", "HEAD")
    changed = _run_git("status", "--porcelain", "--", "forebay", "lambdas", "ops", "bench/*.py")
    return revision + ("+" if changed else "")


def measure_own_peak_mebibytes() -> float:
    """The peak of this process's resident memory.

    `ru_maxrss` is not used on Linux: a forked process inherits its parent's value.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: bytes
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


class PeakMemory:
    """Watches the total resident memory of a process and all its descendants.

    Shared memory is counted for each process, so the figure is an upper bound.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.mebibytes = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                family = [self._process, *self._process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self.mebibytes = max(self.mebibytes, sum(map(_read_resident_bytes, family)) / 2**20)


def _read_resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _run_git(*arguments: str) -> str:
    process = subprocess.run(  # noqa: S603 - fixed arguments
        ["git", *arguments],  # noqa: S607 - the machine's own git
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return process.stdout.strip() if process.returncode == 0 else "unknown"


def _read_cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
