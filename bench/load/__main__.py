"""Loads a stack of its own and stores the figures: `python -m bench.load [scenario…]`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from bench import results
from bench.harness import Findings, say
from bench.load import scenarios
from bench.load.rig import LOCAL, PRODUCTION, open_rig
from bench.load.scenarios import Plan
from bench.results import LOAD_FOLDER
from local.settings import ROOT

SCENARIOS = ("saturate", "shelter", "outage")
_IDLE_SECONDS = 30.0
_IDLE_SECONDS_IN_A_HURRY = 10.0
_HURRY = Plan(
    step_seconds=4,
    most_steps=4,
    sheltered_rate=50,
    sheltered_seconds=10,
    rounds=1,
    outage_seconds=10,
)


def main(arguments: list[str] | None = None) -> int:
    """Run the scenarios; the others keep their last figures."""
    options = _build_parser().parse_args(arguments)
    plan = _HURRY if options.quick else Plan()
    numbers = {name.name: getattr(options, name.name) for name in fields(Plan)}
    plan = Plan(**{name: numbers[name] or getattr(plan, name) for name in numbers})
    folder = ROOT / ".build" / "bench-quick" if options.quick else LOAD_FOLDER
    about = results.about(quick=options.quick)
    for name in options.scenario or SCENARIOS:
        findings = Findings()
        findings.facts["plan"] = {name: getattr(plan, name) for name in numbers}
        say(f"{name}:")
        _run(name, plan, findings, hurry=options.quick)
        file = results.write(name, findings, folder=folder, about=about)
        for ratio in findings.ratios:
            aim = f", aim {ratio.aim}" if ratio.aim else ""
            say(f"  = {ratio.what}: {ratio.value:.1f} times {ratio.against}{aim}")
        say(f"  {file}")
    return 0


def _run(name: str, plan: Plan, findings: Findings, *, hurry: bool) -> None:
    with open_rig(LOCAL) as rig:
        if name == "saturate":
            scenarios.saturate(rig, plan, findings)
        elif name == "outage":
            scenarios.outage(rig, plan, findings)
        else:
            seconds = _IDLE_SECONDS_IN_A_HURRY if hurry else _IDLE_SECONDS
            scenarios.idle(rig, seconds, findings)
            scenarios.shelter(rig, plan, findings, "1 s of buffer")
    if name == "shelter":
        with open_rig(PRODUCTION) as rig:
            scenarios.shelter(rig, plan, findings, f"{PRODUCTION.seconds} s of buffer")


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="to try it; no figures")
    for field in fields(Plan):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default))
    return parser


if __name__ == "__main__":
    sys.exit(main())
