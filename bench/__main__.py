"""Runs comparisons: `python -m bench [name…] [--quick]`."""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from bench import results
from bench.comparisons import LONG, NAMES
from bench.harness import Findings, say
from bench.stage import open_stage
from local.settings import ROOT


def main(arguments: list[str] | None = None) -> int:
    """Run the comparisons that the arguments name, in turn; return 2 for an unknown name."""
    options = _build_parser().parse_args(arguments)
    unknown = sorted(set(options.name) - set(NAMES))
    if unknown:
        say(f"no comparison is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
        return 2
    folder = Path(options.results) if options.results else _choose_folder(quick=options.quick)
    names = options.name or [name for name in NAMES if options.long or name not in LONG]
    for name in names:
        say(f"{name}:")
        start = time.monotonic()
        module = import_module(f"bench.comparisons.{name}")
        about = results.about(quick=options.quick)
        with open_stage(
            quick=options.quick, rounds=options.rounds, chosen_size=options.size
        ) as stage:
            findings: Findings = module.compare(stage)
        file = results.write(name, findings, folder=folder, about=about)
        for ratio in findings.ratios:
            aim = f", aim {ratio.aim}" if ratio.aim else ""
            say(f"  = {ratio.what}: {ratio.value:.2f} of {ratio.against}{aim}")
        say(f"  {time.monotonic() - start:.0f} s, {file}")
    return 0


def _choose_folder(*, quick: bool) -> Path:
    """The folder of the results; a quick run's must not replace real figures."""
    return ROOT / ".build" / "bench-quick" if quick else results.FOLDER


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one round")
    parser.add_argument("--long", action="store_true", help=f"also {', '.join(LONG)}")
    parser.add_argument("--rounds", type=int, help="how often each contender runs")
    parser.add_argument("--size", type=int, help="of growth and rebuild: how many commands")
    parser.add_argument("--results", help="folder for the results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
