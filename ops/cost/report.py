"""The estimate as a text for people, and as JSON."""

from __future__ import annotations

from typing import Any

from ops.cost.estimate import (
    Estimate,
    Load,
    estimate_buffered,
    estimate_quotas,
    estimate_synchronous,
)


def as_json_object(load: Load) -> dict[str, Any]:
    """Return both bills in dollars a month, and every quota, the most used first."""
    return {
        "buffered": _summarize_bill(estimate_buffered(load)),
        "synchronous": _summarize_bill(estimate_synchronous(load)),
        "largest": [item.name for item in estimate_buffered(load).largest],
        "quotas": [
            {"name": quota.name, "used": quota.used, "limit": quota.limit, "share": quota.share}
            for quota in estimate_quotas(load)
        ],
    }


def report(load: Load) -> str:
    """Return both bills side by side, the three largest items, and the first quota reached."""
    buffered_bill, synchronous_bill = estimate_buffered(load), estimate_synchronous(load)
    lines = [_format_row("", "buffered", "synchronous"), "-" * 70]
    names = dict.fromkeys(item.name for item in (*buffered_bill.items, *synchronous_bill.items))
    lines += [
        _format_row(name, _format_item(buffered_bill, name), _format_item(synchronous_bill, name))
        for name in names
    ]
    lines += [
        "-" * 70,
        _format_row(
            "US dollars per month",
            _format_dollars(buffered_bill),
            _format_dollars(synchronous_bill),
        ),
        "",
    ]
    lines.append("The three largest:")
    lines += [
        f"  {item.name}: {item.dollars:,.2f} ({item.explained})" for item in buffered_bill.largest
    ]
    first = estimate_quotas(load)[0]
    verdict = "exceeded" if first.share > 1 else f"reached at {1 / first.share:,.1f} times the load"
    lines.append(
        f"The first quota: {first.name}; {first.used:,.1f} of {first.limit:,.0f}, {verdict}."
    )
    return "\n".join(lines)


def _summarize_bill(estimate: Estimate) -> dict[str, Any]:
    items = {item.name: round(item.dollars, 2) for item in estimate.items}
    return {"dollars": round(estimate.dollars, 2), "items": items}


def _format_row(name: str, left: str, right: str) -> str:
    return f"{name:<30}{left:>20}{right:>20}".rstrip()


def _format_item(estimate: Estimate, name: str) -> str:
    entry = next((item for item in estimate.items if item.name == name), None)
    return "-" if entry is None else f"{entry.dollars:,.2f}"


def _format_dollars(estimate: Estimate) -> str:
    return f"{estimate.dollars:,.2f}"
