"""Writes the tables of docs/performance.md from the results: `python -m bench.report`.

A table is between two comments, `<!-- bench: apply writes -->` and `<!-- /bench -->`. The text
between them is generated; all other text is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import results
from bench.harness import Ratio, say
from local.settings import ROOT

PAGE = ROOT / "docs" / "performance.md"

#: A table's comments, the names of its comparisons, and the table.
MARKED = re.compile(r"(<!-- bench: ([a-z_ ]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
_HEAD = ("| What | Compared with | Ratio | Rounds from, to | Aim | |", "|---|---|---|---|---|---|")
_WORDS = {
    "speed": "{:.2f} times as fast",
    "time": "{:.2f} times the time",
    "size": "{:.2f} times the size",
    "exponent": "{:.2f}",
}
_LARGE = 10


def render(page: str, found: Mapping[str, dict[str, Any]]) -> str:
    """The page with new tables.

    Args:
        page: the page's text.
        found: results by the comparison's name.

    Raises:
        KeyError: the page names a comparison that has no result.
    """

    def table(match: re.Match[str]) -> str:
        names = match[2].split()
        lines = (
            _render_machines(names, found) if names == ["machine"] else _render_rows(names, found)
        )
        return match[1] + "\n".join(lines) + "\n" + match[3]

    return MARKED.sub(table, page)


def main() -> int:
    """Write the page."""
    measured = {result["comparison"]: result for result in results.read_all()}
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), measured), encoding="utf-8")
    say(f"wrote {PAGE.relative_to(Path.cwd()) if PAGE.is_relative_to(Path.cwd()) else PAGE}")
    return 0


def _render_rows(names: Sequence[str], by_comparison: Mapping[str, dict[str, Any]]) -> list[str]:
    rows = [
        _render_row(ratio)
        for name in names
        for ratio in results.compute_ratios_of(by_comparison[name])
    ]
    return [*_HEAD, *rows]


def _render_row(ratio: Ratio) -> str:
    value = _format_number(_WORDS[ratio.kind], ratio.value)
    spread = f"{_format_plain(ratio.low)} to {_format_plain(ratio.high)}"
    if ratio.aim is None:
        return f"| {ratio.what} | {ratio.against} | {value} | {spread} | | |"
    verdict = "met" if ratio.aim.is_met(ratio.value) else "**missed**"
    return f"| {ratio.what} | {ratio.against} | **{value}** | {spread} | {ratio.aim} | {verdict} |"


def _format_number(words: str, value: float) -> str:
    return words.replace("{:.2f}", "{:.0f}" if value >= _LARGE else "{:.2f}").format(value)


def _format_plain(value: float) -> str:
    return f"{value:.0f}" if value >= _LARGE else f"{value:.2f}"


def _render_machines(_: Sequence[str], by_comparison: Mapping[str, dict[str, Any]]) -> list[str]:
    lines = ["| Comparison | Taken at | Commit | Machine |", "|---|---|---|---|"]
    for name, result in by_comparison.items():
        machine = result["machine"]
        lines.append(
            f"| `{name}` | {result['taken_at'][:16].replace('T', ' ')} | `{result['commit']}` | "
            f"{machine['cores']} cores of {machine['cpu']}, load {machine['load_before']} before |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
