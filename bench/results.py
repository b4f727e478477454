"""Results as JSON: one file per comparison with the newest figures and their conditions."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import machine
from bench.harness import Aim, Findings, Ratio
from local.settings import ROOT

FOLDER = ROOT / "bench" / "results"
#: Results of load, soak and outages, which have their own page.
LOAD_FOLDER = FOLDER / "load"
_DIGITS = 6  # of a second, of a ratio


def write(name: str, findings: Findings, *, folder: Path, about: dict[str, Any]) -> Path:
    """Write the results of a comparison; return the file."""
    content = {
        "comparison": name,
        "taken_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        **about,
        "ratios": [_encode_ratio(ratio) for ratio in findings.ratios],
        "series": [
            {
                "name": series.name,
                "items": series.items,
                "per_second": round(series.per_second, 1),
                "seconds": [round(value, _DIGITS) for value in series.seconds],
            }
            for series in findings.series
        ],
        "facts": findings.facts,
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def about(*, quick: bool) -> dict[str, Any]:
    """The conditions of this run's figures."""
    return {
        "commit": machine.commit(),
        "quick": quick,
        "machine": machine.describe(),
        "versions": machine.versions(),
    }


def read_all(folder: Path = FOLDER) -> Iterator[dict[str, Any]]:
    """Every comparison's result, by name."""
    for file in sorted(folder.glob("*.json")):
        yield json.loads(file.read_text(encoding="utf-8"))


def compute_ratios_of(result: dict[str, Any]) -> list[Ratio]:
    """The ratios of a result, as the comparison made them."""
    return [
        Ratio(**{**ratio, "aim": Aim(**ratio["aim"]) if ratio["aim"] else None})
        for ratio in result["ratios"]
    ]


def _encode_ratio(ratio: Ratio) -> dict[str, Any]:
    row = asdict(ratio)
    for name in ("value", "low", "high"):
        row[name] = round(row[name], _DIGITS)
    return row
