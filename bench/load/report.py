"""Writes the tables of docs/load.md from the results: `python -m bench.load.report`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench import results
from bench.harness import say
from local.settings import ROOT

PAGE = ROOT / "docs" / "load.md"

_MARKED = re.compile(r"(<!-- load: ([a-z ]+) -->\n).*?(<!-- /load -->)", re.DOTALL)
_KINDS = {
    "forebay": "write function",
    "synchronous": "synchronous INSERT",
    "whole_stack": "write, whole stack",
    "read": "read function",
}

_HEAD = (
    "| Load | Offered | Succeeded | p50, ms | p99, ms | p99.9, ms | Generator late, p99 ms | "
    "Fresh after p50, ms | p99, ms | Primary's CPU ms per 1,000 | Transactions per 1,000 | |"
)

_COSTS = (
    "| Per 10,000 commands | Way | CPU s | Transactions | WAL, MiB | Commands an object | "
    "CPU ms an object | Transactions an object |"
)

Result = Mapping[str, Any]


def render(page: str, found: Mapping[str, Result]) -> str:
    """The page with new tables; a table without results states that."""

    def table(match: re.Match[str]) -> str:
        name = match[2]
        result = found.get(name.split()[0])
        lines = ["Not measured yet."] if result is None else _TABLES[name](result)
        return match[1] + "\n".join(lines) + "\n" + match[3]

    return _MARKED.sub(table, page)


def main() -> int:
    """Write the page."""
    measured = {result["comparison"]: result for result in results.read_all(results.LOAD_FOLDER)}
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), measured), encoding="utf-8")
    say(f"wrote {PAGE}")
    return 0


def _render_saturation(result: Result) -> list[str]:
    lines = [
        _describe_run(result),
        "",
        _HEAD,
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, kind in _KINDS.items():
        lines += [
            _render_step(kind, step, costs=name != "read")
            for step in result["facts"].get(f"saturation_{name}", [])
        ]
    return lines


def _render_step(kind: str, step: Mapping[str, Any], *, costs: bool) -> str:
    latency, freshness = step["latency_milliseconds"], step["freshness_milliseconds"]
    work = step["primary_per_1000"]
    cells = [
        kind,
        f"{step['offered_per_second']:.0f}/s",
        f"{step['succeeded_per_second']:.0f}/s",
        *(_round(latency.get(name)) for name in ("p50", "p99", "p99.9")),
        _round(step["generator_lag_milliseconds"].get("p99")),
        *(_round(freshness.get(name)) for name in ("p50", "p99")),
        f"{work['cpu_seconds'] * 1000:.0f}" if costs else "",
        f"{work['transactions']:.0f}" if costs else "",
        "" if step["held"] else "not held",
    ]
    return f"| {' | '.join(cells)} |"


def _round(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _render_factors(result: Result) -> list[str]:
    lines = [
        _describe_run(result),
        "",
        "| Synchronous ÷ Forebay | Factor | Rounds from, to | Aim | |",
        "|---|---|---|---|---|",
    ]
    for ratio in results.compute_ratios_of(dict(result)):
        verdict = (
            "" if ratio.aim is None else "met" if ratio.aim.is_met(ratio.value) else "**missed**"
        )
        lines.append(
            f"| {ratio.what} | **{ratio.value:.1f}** | {ratio.low:.1f} to {ratio.high:.1f} | "
            f"{ratio.aim or ''} | {verdict} |"
        )
    return lines


def _render_costs(result: Result) -> list[str]:
    lines = [
        _COSTS,
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rounds in result["facts"].items():
        if name.startswith("sheltered_"):
            lines += _render_cost_rows(name.removeprefix("sheltered_"), rounds)
    idle = result["facts"]["idle_per_minute"]
    lines.append(
        f"| idle, per minute | | {idle['cpu_seconds']:.2f} | {idle['transactions']:.0f} | | | | |"
    )
    return lines


def _render_cost_rows(name: str, rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for mode in ("synchronous", "forebay"):
        for number, costs in enumerate(rounds, 1):
            cost, work = costs[mode], costs[mode]["per_10000"]
            objects = cost["objects"]
            per_object = "| | |"
            if objects:
                per_object = (
                    f"{cost['succeeded'] / objects:.0f} | "
                    f"{cost['primary_cpu_seconds'] * 1000 / objects:.1f} | "
                    f"{cost['primary_transactions'] / objects:.1f} |"
                )
            rows.append(
                f"| {name}, round {number} | {mode} | {work['cpu_seconds']:.2f} | "
                f"{work['transactions']:.0f} | {work['wal_mebibytes']:.1f} | {per_object}"
            )
    return rows


def _render_outage(result: Result) -> list[str]:
    facts = result["facts"]["outage"]
    lines = [
        _describe_run(result),
        "",
        f"| Primary away for {facts['seconds']:.0f} s | Requests | Accepted | p50, ms | p99, ms |",
        "|---|---|---|---|---|",
    ]
    for name, kind in (
        ("before", "Forebay, whole stack, before"),
        ("forebay", "Forebay, whole stack, primary away"),
        ("synchronous", "synchronous, primary away"),
    ):
        load = facts[name]
        latency = load["latency_milliseconds"]
        lines.append(
            f"| {kind} | {load['requests']} | {facts[f'{name}_accepted_share']:.2%} | "
            f"{_round(latency.get('p50'))} | {_round(latency.get('p99'))} |"
        )
    seconds = facts["all_applied_seconds_after"]
    return [*lines, "", f"{seconds:.0f} s after its start everything accepted was on the replica."]


def _render_soak(result: Result) -> list[str]:
    facts = result["facts"]
    summary = (
        f"{facts['seconds'] / 60:.0f} minutes: {facts['operations']} operations, "
        f"{facts['acknowledged']} writes acknowledged, {facts['open']} without a clear answer, "
        f"{facts['hazards']} hazards; {facts['violations']} broken promises, `forebay verify` "
        f"{'clean' if facts['verified'] else '**not clean**'}, {facts['dead_letters']} dead "
        "letters moved back."
    )
    lines = [
        _describe_run(result),
        "",
        summary,
        "",
        "| Memory, MiB | At first | At most | At last | Last quarter ÷ second |",
        "|---|---|---|---|---|",
    ]
    for part, size in facts["memory_mebibytes"].items():
        growth = "" if size["growth"] is None else f"{size['growth']:.2f}"
        lines.append(
            f"| {part} | {size['first']:.0f} | {size['most']:.0f} | {size['last']:.0f} | {growth} |"
        )
    return lines


def _describe_run(result: Result) -> str:
    machine = result["machine"]
    return (
        f"{result['taken_at'][:16].replace('T', ' ')}, commit `{result['commit']}`, "
        f"{machine['cores']} cores of {machine['cpu']}, load {machine['load_before']} before."
    )


_TABLES: Mapping[str, Callable[[Result], list[str]]] = {
    "saturate": _render_saturation,
    "shelter": _render_factors,
    "shelter costs": _render_costs,
    "outage": _render_outage,
    "soak": _render_soak,
}

if __name__ == "__main__":
    sys.exit(main())
