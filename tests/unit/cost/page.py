"""Writes the figures of docs/cost.md: `make cost-page`."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from collections.abc import Sequence

from local.settings import ROOT
from ops import cli
from ops.cost.estimate import Load, estimate_at_rest, estimate_buffered
from ops.cost.settings import load

PAGE = ROOT / "docs" / "cost.md"
_COMMAND = re.compile(r"^(\$ forebay cost ([^\n]*)\n).*?^```$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"(<!-- cost: environments -->\n).*?(<!-- /cost -->)", re.MULTILINE | re.DOTALL)
#: Reads and writes per second of the table's columns.
_LOADS = ((10, 5), (100, 50))


def render(page: str) -> str:
    """The page with the output of its commands, and with the table of the environments."""
    page = _COMMAND.sub(lambda match: f"{match[1]}{_run(shlex.split(match[2]))}```", page)
    return _TABLE.sub(lambda match: match[1] + "\n".join(_tabulate()) + "\n" + match[2], page)


def main() -> int:
    """Write the page."""
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def _run(arguments: Sequence[str]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = cli.run(["cost", *arguments])
    assert code == 0
    return output.getvalue()


def _tabulate() -> list[str]:
    heads = [f"{reads} reads, {writes} commands a second" for reads, writes in _LOADS]
    lines = [f"| Dollars a month | at rest | {' | '.join(heads)} |", "|---|---|---|---|"]
    for name in ("dev", "staging", "prod"):
        settings = load(name)
        bills = [estimate_at_rest(settings)]
        bills += [
            estimate_buffered(settings, Load(reads_per_second=reads, writes_per_second=writes))
            for reads, writes in _LOADS
        ]
        cells = " | ".join(f"{bill.dollars:,.0f}" for bill in bills)
        lines.append(f"| `{name}` | {cells} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
