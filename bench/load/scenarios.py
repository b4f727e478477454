"""The loads: steps up to saturation, the same load both ways, and writes without the primary."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.harness import Aim, Findings, Ratio, say
from bench.load.freshness import Freshness
from bench.load.generator import Request, Sent, offer, spread
from bench.load.primary import look
from bench.load.requests import build_reads, make_cities
from bench.load.rig import Rig

PER_CPU_AIM, PER_TRANSACTIONS_AIM = Aim(at_least=10), Aim(at_least=100)
_UNIT = 10_000  # commands per unit of the primary's work
_APPLIED_SECONDS = 300.0
_GROWTH = 1.5
_HELD_SHARE = 0.95  # minimum share of successes for a step to be held
_HELD_SECONDS = 1.0  # and the maximum p99
_SEED = 1
_BEFORE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The durations and rates of the loads."""

    first_rate: float = 20.0
    step_seconds: float = 10.0
    most_steps: int = 10
    sheltered_rate: float = 150.0
    sheltered_seconds: float = 30.0
    rounds: int = 2
    outage_seconds: float = 300.0
    outage_rate: float = 10.0


def saturate(rig: Rig, plan: Plan, findings: Findings) -> None:
    """Step up writes, the same writes synchronously, and reads, each until a step is not held."""
    for name, mode in (("forebay", "forebay"), ("synchronous", "synchronous")):
        rig.empty()
        with rig.front(mode, "write") as url:
            steps = _measure_steps(rig, url, make_cities, plan, applied=mode == "forebay")
        findings.facts[f"saturation_{name}"] = steps
    rig.empty()
    findings.facts["saturation_whole_stack"] = _measure_steps(
        rig, rig.settings.base_url, make_cities, plan, applied=True
    )
    keys = [key for (key,) in rig.rows("SELECT geonameid FROM cities")]
    with rig.front("read", "read") as url:
        findings.facts["saturation_read"] = _measure_steps(
            rig, url, lambda: build_reads(keys), plan, applied=False
        )


def _measure_steps(
    rig: Rig,
    url: str,
    requests: Callable[[], Callable[[int], Request]],
    plan: Plan,
    *,
    applied: bool,
) -> list[dict[str, Any]]:
    """The figures of each step; the last is the first that was not held."""
    asyncio.run(offer(url, requests(), rate=plan.first_rate, seconds=2, seed=0))  # warm
    rate, steps = plan.first_rate, []
    for _ in range(plan.most_steps):
        freshness = Freshness(rig)
        start = look(rig.stack.primary)
        with freshness.watching():
            observer = freshness.accepted if applied else _ignore_accepted
            sent = asyncio.run(
                offer(
                    url,
                    requests(),
                    rate=rate,
                    seconds=plan.step_seconds,
                    seed=_SEED,
                    on_accepted=observer,
                )
            )
            if applied:
                rig.wait_until_applied(
                    [command_id for command_id, _ in sent.accepted], seconds=_APPLIED_SECONDS
                )
        work = look(rig.stack.primary).since(start)
        held = _is_held(sent)
        step = {
            **sent.summary(),
            "held": held,
            "freshness_milliseconds": spread(freshness.seconds),
            "primary_per_1000": work.per(sent.succeeded, 1000),
        }
        steps.append(step)
        _print_step(step)
        if not held:
            break
        rate *= _GROWTH
    return steps


def _ignore_accepted(_command_id: str, _at: float) -> None:
    """Ignore an accepted command."""


def _is_held(sent: Sent) -> bool:
    enough = sent.succeeded >= _HELD_SHARE * len(sent.lags)
    return enough and spread(sent.latencies)["p99"] <= _HELD_SECONDS * 1000


def _print_step(step: dict[str, Any]) -> None:
    latency = step["latency_milliseconds"]
    say(
        f"  {step['offered_per_second']:.0f}/s offered: {step['succeeded_per_second']:.0f}/s, "
        f"p50 {latency.get('p50')} ms, p99 {latency.get('p99')} ms, "
        f"generator p99 {step['generator_lag_milliseconds'].get('p99')} ms late"
        f"{'' if step['held'] else ', not held'}"
    )


def shelter(rig: Rig, plan: Plan, findings: Findings, name: str) -> None:
    """Offer the same arrivals both ways; compare the primary's cost per 10,000 commands."""
    rounds: list[dict[str, Any]] = []
    for number in range(plan.rounds):
        ways = ["synchronous", "forebay"]
        costs = {
            mode: _measure_cost(rig, plan, mode, seed=number)
            for mode in (ways if number % 2 else ways[::-1])
        }
        rounds.append(costs)
        say(f"  {name}, round {number + 1}: {costs}")
    findings.facts[f"sheltered_{name}"] = rounds
    for quantity, aim in (
        ("cpu_seconds", PER_CPU_AIM),
        ("transactions", PER_TRANSACTIONS_AIM),
        ("wal_mebibytes", None),
    ):
        values = [
            round_costs["synchronous"]["per_10000"][quantity]
            / max(round_costs["forebay"]["per_10000"][quantity], 1e-9)
            for round_costs in rounds
        ]
        findings.ratios.append(
            Ratio(
                f"primary's {quantity.replace('_', ' ')}, {name}",
                "Forebay's",
                statistics.median(values),
                min(values),
                max(values),
                aim,
                "size",
            )
        )


def _measure_cost(rig: Rig, plan: Plan, mode: str, *, seed: int) -> dict[str, Any]:
    rig.empty()
    with rig.front(mode, "write") as url:
        warm = asyncio.run(offer(url, make_cities(), rate=10, seconds=2, seed=0))
        rig.flush()
        ids = [command_id for command_id, _ in warm.accepted]
        rig.wait_until_applied(ids, seconds=_APPLIED_SECONDS)
        objects = _count_objects(rig)
        start = look(rig.stack.primary)
        sent = asyncio.run(
            offer(
                url,
                make_cities(),
                rate=plan.sheltered_rate,
                seconds=plan.sheltered_seconds,
                seed=seed,
            )
        )
        rig.flush()  # the commands of an unfinished interval
        ids = [command_id for command_id, _ in sent.accepted]
        rig.wait_until_applied(ids, seconds=_APPLIED_SECONDS)
        work = look(rig.stack.primary).since(start)
    return {
        **sent.summary(),
        "objects": _count_objects(rig) - objects,
        "per_10000": work.per(sent.succeeded, _UNIT),
        "primary_cpu_seconds": round(work.cpu_seconds, 2),
        "primary_transactions": work.transactions,
        "watched_seconds": round(work.seconds, 1),
    }


def _count_objects(rig: Rig) -> int:
    return int(rig.rows("SELECT count(*) FROM forebay.ledger")[0][0])


def idle(rig: Rig, seconds: float, findings: Findings) -> None:
    """Measure the primary's work without a load: sweeps, replication, maintenance."""
    start = look(rig.stack.primary)
    time.sleep(seconds)
    work = look(rig.stack.primary).since(start)
    findings.facts["idle_per_minute"] = {
        "cpu_seconds": round(work.cpu_seconds * 60 / work.seconds, 3),
        "transactions": round(work.transactions * 60 / work.seconds, 1),
    }


def outage(rig: Rig, plan: Plan, findings: Findings) -> None:
    """Send writes to the whole stack, and synchronous ones, while the primary is stopped."""
    rig.empty()
    with rig.front("synchronous", "write") as synchronous:
        loads = asyncio.run(_offer_during_outage(rig, plan, synchronous))
    reference, forebay, other = loads
    seconds = rig.wait_until_applied(
        [command_id for command_id, _ in forebay.accepted],
        seconds=_APPLIED_SECONDS + plan.outage_seconds,
    )
    findings.facts["outage"] = {
        "seconds": plan.outage_seconds,
        "before": reference.summary(),
        "before_accepted_share": reference.succeeded / max(1, len(reference.lags)),
        "forebay": forebay.summary(),
        "forebay_accepted_share": forebay.succeeded / max(1, len(forebay.lags)),
        "synchronous": other.summary(),
        "synchronous_accepted_share": other.succeeded / max(1, len(other.lags)),
        "all_applied_seconds_after": round(seconds, 1),
    }
    say(f"  outage: {findings.facts['outage']}")


async def _offer_during_outage(rig: Rig, plan: Plan, synchronous: str) -> tuple[Sent, Sent, Sent]:
    seconds, rate = plan.outage_seconds, plan.outage_rate
    for url in (rig.settings.base_url, synchronous):
        await offer(url, make_cities(), rate=5, seconds=2, seed=0)
    # The result of the same load on this machine without a failure.
    reference = await offer(
        rig.settings.base_url,
        make_cities(),
        rate=rate,
        seconds=min(seconds, _BEFORE_SECONDS),
        seed=_SEED + 1,
    )
    await asyncio.to_thread(rig.stop_primary)
    try:
        forebay, other = await asyncio.gather(
            offer(rig.settings.base_url, make_cities(), rate=rate, seconds=seconds, seed=_SEED),
            offer(synchronous, make_cities(), rate=1, seconds=seconds, seed=_SEED),
        )
    finally:
        await asyncio.to_thread(rig.start_primary)
    return reference, forebay, other
