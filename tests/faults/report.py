"""Write the tables of docs/reliability.md from docs/reliability.json, which a full run makes.

`make faults-report` runs this as `python -m tests.faults.report`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from local.settings import ROOT

RESULTS = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
_BEGIN = "<!-- from reliability.json: make faults-report -->"
_END = "<!-- end -->"
_PARTS = ("intake", "delivery", "consumer", "primary", "replica", "read cache", "records")


def tables(results: Mapping[str, Any]) -> str:
    """The generated part of the page."""
    run = results["run"]
    faults = sorted(results["faults"], key=lambda fault: _PARTS.index(fault["part"]))
    head = (
        f"The run of {run['began'][:16].replace('T', ' ')} UTC on {run['cores']} cores, shared "
        f"with other work (load average at its end: {run['load_average'][0]}). "
        f"{len(faults)} faults, {_sum(faults, 'acknowledged'):,} acknowledged commands, "
        f"{_sum(faults, 'lost')} lost, {_sum(faults, 'hurt')} hurt."
    )
    return "\n\n".join((head, _summary(faults), _details(faults)))


def _sum(faults: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(fault[name] for fault in faults)


def _summary(faults: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            fault["part"],
            fault["name"],
            f"{fault['seconds']:.1f} s",
            f"{fault['recovery_seconds']:.1f} s",
            f"{fault['acknowledged']:,}",
            f"**{fault['lost']}**",
            f"**{fault['hurt']}**",
            "agrees" if fault["verified"] else "DIFFERS",
        )
        for fault in faults
    ]
    names = (
        "Part",
        "Fault",
        "Lasted",
        "Recovered after",
        "Acknowledged",
        "Lost",
        "Hurt",
        "`verify`",
    )
    return _table(names, rows)


def _details(faults: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (fault["name"], f"{fault['how']} ({fault['rig']})", fault["client"], fault["remark"])
        for fault in faults
    ]
    return _table(("Fault", "How it was made", "What clients saw", "Besides"), rows)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines
    )


def with_tables(page: str, results: Mapping[str, Any]) -> str:
    """The page with newly generated tables."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n\n{tables(results)}\n\n{_END}{after}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_tables(PAGE.read_text(), json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
