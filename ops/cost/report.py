"""The estimate as a text for people, and as JSON."""

from __future__ import annotations

from typing import Any

from ops.cost.estimate import Estimate, Load, buffered, quotas, synchronous


def as_json_object(load: Load) -> dict[str, Any]:
    """Return both bills in dollars a month, and every quota, the most used first."""
    return {
        "buffered": _bill(buffered(load)),
        "synchronous": _bill(synchronous(load)),
        "largest": [item.name for item in buffered(load).largest],
        "quotas": [
            {"name": quota.name, "used": quota.used, "limit": quota.limit, "share": quota.share}
            for quota in quotas(load)
        ],
    }


def report(load: Load) -> str:
    """Return both bills side by side, the three largest items, and the first quota reached."""
    ours, theirs = buffered(load), synchronous(load)
    lines = [_row("", "buffered", "synchronous"), "-" * 70]
    names = dict.fromkeys(item.name for item in (*ours.items, *theirs.items))
    lines += [_row(name, _of(ours, name), _of(theirs, name)) for name in names]
    lines += ["-" * 70, _row("US dollars a month", _dollars(ours), _dollars(theirs)), ""]
    lines.append("The three largest:")
    lines += [f"  {item.name}: {item.dollars:,.2f} ({item.explained})" for item in ours.largest]
    first = quotas(load)[0]
    said = "does not fit" if first.share > 1 else f"is met at {1 / first.share:,.1f} times the load"
    lines.append(f"The first quota: {first.name}; {first.used:,.1f} of {first.limit:,.0f}, {said}.")
    return "\n".join(lines)


def _bill(estimate: Estimate) -> dict[str, Any]:
    items = {item.name: round(item.dollars, 2) for item in estimate.items}
    return {"dollars": round(estimate.dollars, 2), "items": items}


def _row(name: str, ours: str, theirs: str) -> str:
    return f"{name:<30}{ours:>20}{theirs:>20}".rstrip()


def _of(estimate: Estimate, name: str) -> str:
    found = next((item for item in estimate.items if item.name == name), None)
    return "-" if found is None else f"{found.dollars:,.2f}"


def _dollars(estimate: Estimate) -> str:
    return f"{estimate.dollars:,.2f}"
