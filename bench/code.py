"""Counts the code: `python -m bench.code [folder…]`.

Modules, lines, long functions, and the share of functions with a verb at the begin of their names.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from local.settings import ROOT

_FOLDERS = (
    "forebay",
    "lambdas",
    "ops",
    "devtools",
    "local",
    "loader",
    "infra",
    "migrations",
    "resources",
)
_LONG_LINES = 40
_VERBS = frozenset(
    """
    accept acquire add adopt advance allow annotate answer append apply are ask asserts attach
    authorize await become begin bisect block build bury call can cap catch check choose claim clear
    clone close collect combine commit compare compile complete compose compress compute configure
    confirm connect consume contain contend convert copy count create cut decide declare decode
    decompress delete deliver deploy derive describe detach detect determine dig discard discover
    distribute do does draw drop dump emit empty enable encode end enqueue ensure enter enumerate
    estimate evaluate examine execute exit expand expect explain export extend extract fail feed
    fetch fill filter find finish fire fit fits flush fold follow forbid forget format generate get
    give go group guard guess halve handle has hash have hide hold holds identify ignore import
    increment infer inflate insert inspect install interpret intersect invoke is join judge keep
    kill know label learn leave limit link list listen load lock log look lower make map mark match
    matches may measure mend merge migrate mount move must name needs normalize note observe omit
    open order outdate override pack pair parse partition pause pick plan poll prefer prepare price
    print probe prove provide prune publish pull put query quote raise rank read rebuild receive
    record recover redact redrive reduce refuse register rehearse reject relay release reload remove
    rename render repeat replace replay report request require reserve reset resolve restart restore
    resume retry return reveal revoke rewrite roll rotate round run salvage sample save say scan
    schedule seal search seek select send serialize serve set settle shorten show shrink shuffle
    sign skip sleep sort spawn spell split spread stage start stat steer stop store stream strip
    submit suggest summarize supersede supports survey swap sweep synthesize tabulate tail take tell
    test throttle tidy time touch trace track translate trim truncate try unbury undo unlock unwrap
    upcast update upgrade upload uses validate verify visit wait wake walk warn watch weigh wire
    withdraw wrap write yield
    """.split()  # noqa: SIM905 - a list of literals takes a line per word
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main(arguments: Sequence[str]) -> int:
    """Print the counts of the folders; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", default=_FOLDERS, help="default: the product's")
    files = [
        file
        for folder in parser.parse_args(arguments).folders
        for file in sorted((ROOT / folder).rglob("*.py"))
    ]
    functions = [function for file in files for function in _find_functions(file)]
    named = [function for function in functions if not _has_fixed_name(function)]
    verbs = sum(_begins_with_verb(function.name) for function in named)
    long = [function for function in functions if _count_lines(function) > _LONG_LINES]
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    sys.stdout.write(
        f"modules {len(files):,}\nlines {lines:,}\nfunctions {len(functions):,}\n"
        f"functions over {_LONG_LINES} lines {len(long)}\n"
        f"functions that begin with a verb {verbs / max(len(named), 1):.0%}\n"
    )
    return 0


def _find_functions(file: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, Function):
            yield node


def _has_fixed_name(function: Function) -> bool:
    """Return whether another rule names the function: a special method, or a property."""
    marks = {
        node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
        for node in function.decorator_list
    }
    return function.name.startswith("__") or bool(marks & {"property", "cached_property"})


def _begins_with_verb(name: str) -> bool:
    return name.lstrip("_").partition("_")[0] in _VERBS


def _count_lines(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
