"""Query PyPI and npm for known vulnerabilities of the packages in the lock files.

A package that could not be queried is listed, and gives the audit an exit code of its own:
an incomplete audit is not a result.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uv import find_uv_bin

from devtools import node
from devtools.errors import ToolFailedError

#: Exit codes: known vulnerabilities; none known, but some packages could not be queried.
HOLES: Final = 1
INCOMPLETE: Final = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of querying a source."""

    source: str
    #: The number of packages that were queried.
    asked_about: int = 0
    #: One line per vulnerability: the package, the vulnerability, and the version that fixes it.
    holes: tuple[str, ...] = ()
    #: The packages that could not be queried, each with the reason.
    not_asked: tuple[str, ...] = ()


def audit(root: Path) -> int:
    """Print the result of each source.

    Returns:
        0 if both sources were queried completely and know no vulnerability; HOLES if a source
        knows one; INCOMPLETE if neither knows one, but a source could not be queried completely.

    Raises:
        ToolFailedError: the lock file of Python can't be read.
    """
    return conclude([_ask_pypi(root), _ask_npm(root)])


def conclude(answers: Sequence[Answer]) -> int:
    """Print the answers and the summary; return the exit code as `audit` does."""
    for answer in answers:
        for line in _format_lines(answer):
            _say(f"{answer.source}: {line}")
    with_holes = [answer.source for answer in answers if answer.holes]
    incomplete = [answer.source for answer in answers if answer.not_asked]
    if with_holes:
        _say(f"audit: known vulnerabilities: {', '.join(with_holes)}")
    if incomplete:
        _say(f"audit: incomplete, so this is not a result; not queried: {', '.join(incomplete)}")
    if not with_holes and not incomplete:
        _say("audit: no known vulnerabilities")
    if with_holes:
        return HOLES
    return INCOMPLETE if incomplete else 0


def read_pip_audit(report: str, errors: str) -> Answer:
    """Parse the JSON report and the standard error of pip-audit."""
    dependencies = _parse_object(report).get("dependencies")
    if not isinstance(dependencies, list):
        return Answer("PyPI", not_asked=(f"everything ({_take_last_line(errors)})",))
    skipped = [package for package in dependencies if "skip_reason" in package]
    audited = [package for package in dependencies if "skip_reason" not in package]
    return Answer(
        "PyPI",
        asked_about=len(audited),
        holes=tuple(
            f"{package['name']} {package['version']}: {hole['id']}, "
            + _describe_fix(hole.get("fix_versions", ()))
            for package in audited
            for hole in package["vulns"]
        ),
        not_asked=tuple(f"{package['name']} ({package['skip_reason']})" for package in skipped),
    )


def read_npm_audit(report: str, errors: str) -> Answer:
    """Parse the report of `npm audit --json` and its standard error."""
    answer = _parse_object(report)
    vulnerabilities = answer.get("vulnerabilities")
    if not isinstance(vulnerabilities, dict):
        reason = _read_npm_error(answer) or _take_last_line(errors)
        return Answer("npm", not_asked=(f"everything ({reason})",))
    return Answer(
        "npm",
        asked_about=int(answer["metadata"]["dependencies"]["total"]),
        holes=tuple(
            f"{name} {hole['range']}: {hole['severity']}, "
            + ("fixed by `npm audit fix`" if hole["fixAvailable"] else "not fixed yet")
            for name, hole in sorted(vulnerabilities.items())
        ),
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _format_lines(answer: Answer) -> Iterator[str]:
    yield from answer.holes
    yield from (f"could not be queried for {name}" for name in answer.not_asked)
    if answer.asked_about and not answer.holes:
        yield f"no known vulnerabilities in {answer.asked_about} packages"


def _ask_pypi(root: Path) -> Answer:
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        export = ["export", "--frozen", "--quiet", "--all-groups", "--no-emit-project"]
        exported = _run([find_uv_bin(), *export, "--output-file", str(requirements)], root)
        if exported.returncode:
            raise ToolFailedError(f"uv.lock can't be read: {exported.stderr.strip()}")
        # The file lists every installed package with its hash, so pip-audit has no need to resolve.
        options = ["--disable-pip", "--progress-spinner", "off", "--format", "json"]
        process = _run([sys.executable, "-m", "pip_audit", *options, "-r", str(requirements)], root)
    return read_pip_audit(process.stdout, process.stderr)


def _ask_npm(root: Path) -> Answer:
    process = _run([*node.build_npm_command(), "audit", "--json"], root)
    return read_npm_audit(process.stdout, process.stderr)


def _run(command: Sequence[str], root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        command,
        cwd=root,
        env=node.build_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )


def _parse_object(text: str) -> Mapping[str, Any]:
    """Parse a JSON object; return an empty mapping for any other text."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _read_npm_error(answer: Mapping[str, Any]) -> str:
    error = answer.get("error")
    summary = error.get("summary") if isinstance(error, dict) else None
    return str(answer.get("message") or summary or "")


def _take_last_line(errors: str) -> str:
    return next(reversed(errors.strip().splitlines()), "without a message").strip()


def _describe_fix(versions: Sequence[str]) -> str:
    return f"fixed in {', '.join(versions)}" if versions else "not fixed yet"
