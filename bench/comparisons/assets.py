"""The unzipped size of the functions' packages, with the dependencies for AWS."""

from __future__ import annotations

from pathlib import Path

from bench.harness import Aim, Findings, single
from bench.stage import Stage
from infra.bundling import build_asset
from infra.settings import PackageName

MEBIBYTE = 1024 * 1024
#: tests/infra/test_bundling.py checks the same limits.
LIMITS_MEBIBYTES: dict[PackageName, int] = {"write": 20, "read": 30, "consumer": 30}


def compare(stage: Stage) -> Findings:
    """Build each package and add up its files."""
    findings = Findings()
    for function, limit in LIMITS_MEBIBYTES.items():
        folder = stage.folder / function
        build_asset(function, folder, with_dependencies=True)
        size = measure_unzipped_bytes(folder) / MEBIBYTE
        value = size / limit
        findings.ratios.append(
            single(
                f"package of {function}, {size:.1f} MiB",
                f"{limit} MiB",
                value,
                "size",
                Aim(at_most=1),
            )
        )
        findings.facts[function] = {"mebibytes": round(size, 2), "largest": largest(folder)}
    return findings


def measure_unzipped_bytes(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def largest(folder: Path) -> dict[str, float]:
    """The largest parts of a package, in MiB."""
    sizes = {
        entry.name: measure_unzipped_bytes(entry) if entry.is_dir() else entry.stat().st_size
        for entry in folder.iterdir()
    }
    top = sorted(sizes.items(), key=lambda item: -item[1])[:6]
    return {name: round(size / MEBIBYTE, 2) for name, size in top}
