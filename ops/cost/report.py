"""The estimate as a text for people, and as JSON."""

from __future__ import annotations

from typing import Any

from ops.cost.estimate import (
    PRICED_REGION,
    Estimate,
    Load,
    Quota,
    estimate_at_rest,
    estimate_buffered,
    estimate_quotas,
    estimate_synchronous,
)
from ops.cost.settings import Settings

_WIDTH = 78
_LEAST_SHOWN = 0.005  # dollars


def build_json_object(env: str, settings: Settings, load: Load) -> dict[str, Any]:
    """Return the bills in dollars a month, and every quota, the most used first.

    Without a load, `buffered`, `synchronous` and `quotas` are absent.
    """
    at_rest = estimate_at_rest(settings)
    result: dict[str, Any] = {"env": env, "at_rest": _summarize_bill(at_rest)}
    bill = at_rest
    if load.requests:
        bill = estimate_buffered(settings, load)
        result["buffered"] = _summarize_bill(bill)
        result["synchronous"] = _summarize_bill(estimate_synchronous(settings, load))
        result["quotas"] = [_list_facts(quota) for quota in estimate_quotas(settings, load)]
    return {**result, "largest": [item.name for item in bill.largest]}


def report(settings: Settings, load: Load) -> str:
    """Return the bills side by side, the three largest items, and the first quota reached.

    Without a load, only the bill at rest.
    """
    bills = {"at rest": estimate_at_rest(settings)}
    if load.requests:
        bills["synchronous"] = estimate_synchronous(settings, load)
        bills["buffered"] = estimate_buffered(settings, load)
    largest = bills.get("buffered", bills["at rest"]).largest
    lines = [
        *_tabulate(bills),
        "",
        "The three largest:",
        *(f"  {item.name}: {item.dollars:,.2f} ({item.explained})" for item in largest),
    ]
    if load.requests:
        lines.append(_describe_quota(estimate_quotas(settings, load)[0]))
    if settings.region != PRICED_REGION:
        lines.append(f"The prices are those of {PRICED_REGION}; {settings.region} has others.")
    return "\n".join(lines)


def _tabulate(bills: dict[str, Estimate]) -> list[str]:
    # A bill under load has every item, so its order is taken.
    names = dict.fromkeys(
        item.name
        for bill in reversed(bills.values())
        for item in bill.items
        if item.dollars >= _LEAST_SHOWN
    )
    rule = "-" * _WIDTH
    return [
        _format_row("", list(bills)),
        rule,
        *(
            _format_row(name, [_format_item(bill, name) for bill in bills.values()])
            for name in names
        ),
        rule,
        _format_row("US dollars per month", [f"{bill.dollars:,.2f}" for bill in bills.values()]),
    ]


def _describe_quota(quota: Quota) -> str:
    verdict = "exceeded" if quota.share > 1 else f"reached at {1 / quota.share:,.1f} times the load"
    return f"The first quota: {quota.name}; {quota.used:,.1f} of {quota.limit:,.0f}, {verdict}."


def _list_facts(quota: Quota) -> dict[str, Any]:
    return {"name": quota.name, "used": quota.used, "limit": quota.limit, "share": quota.share}


def _summarize_bill(estimate: Estimate) -> dict[str, Any]:
    items = {item.name: round(item.dollars, 2) for item in estimate.items}
    return {"dollars": round(estimate.dollars, 2), "items": items}


def _format_row(name: str, values: list[str]) -> str:
    return f"{name:<30}{''.join(f'{value:>16}' for value in values)}".rstrip()


def _format_item(estimate: Estimate, name: str) -> str:
    entry = next((item for item in estimate.items if item.name == name), None)
    if entry is None or entry.dollars < _LEAST_SHOWN:
        return "-"
    return f"{entry.dollars:,.2f}"
