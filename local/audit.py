"""Asks PyPI and npm whether what the lock files name has known holes.

What could not be asked is no result: it is named, and has an exit code of its own.
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

from local import node
from local.errors import ToolFailedError

#: Exit codes: known holes; none known, but a source was not asked about something.
HOLES: Final = 1
INCOMPLETE: Final = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What one source said."""

    source: str
    #: Packages that it was asked about.
    asked_about: int = 0
    #: One a line: package, hole, and what mends it.
    holes: tuple[str, ...] = ()
    #: What it could not be asked about, each with the reason.
    not_asked: tuple[str, ...] = ()


def audit(root: Path) -> int:
    """Prints what each source says.

    Returns:
        0 where both were asked about everything and know no hole; HOLES where one knows some;
        INCOMPLETE where neither knows any, but one could not be asked about everything.

    Raises:
        ToolFailedError: the lock file of Python can't be read.
    """
    return conclude([_ask_pypi(root), _ask_npm(root)])


def conclude(answers: Sequence[Answer]) -> int:
    """Prints the answers and what they come to; the exit code, as `audit` returns it."""
    for answer in answers:
        for line in _lines(answer):
            _say(f"{answer.source}: {line}")
    with_holes = [answer.source for answer in answers if answer.holes]
    incomplete = [answer.source for answer in answers if answer.not_asked]
    if with_holes:
        _say(f"audit: known holes: {', '.join(with_holes)}")
    if incomplete:
        _say(f"audit: incomplete, this is no result; not asked: {', '.join(incomplete)}")
    if not with_holes and not incomplete:
        _say("audit: no known holes")
    if with_holes:
        return HOLES
    return INCOMPLETE if incomplete else 0


def read_pip_audit(report: str, errors: str) -> Answer:
    """What PyPI said, from pip-audit's JSON format and from what it wrote to its standard error."""
    dependencies = _mapping(report).get("dependencies")
    if not isinstance(dependencies, list):
        return Answer("PyPI", not_asked=(f"everything ({_last_line(errors)})",))
    skipped = [found for found in dependencies if "skip_reason" in found]
    asked = [found for found in dependencies if "skip_reason" not in found]
    return Answer(
        "PyPI",
        asked_about=len(asked),
        holes=tuple(
            f"{found['name']} {found['version']}: {hole['id']}, "
            + _mended_in(hole.get("fix_versions", ()))
            for found in asked
            for hole in found["vulns"]
        ),
        not_asked=tuple(f"{found['name']} ({found['skip_reason']})" for found in skipped),
    )


def read_npm_audit(report: str, errors: str) -> Answer:
    """What npm said, from `npm audit --json` and from what it wrote to its standard error."""
    found = _mapping(report)
    vulnerabilities = found.get("vulnerabilities")
    if not isinstance(vulnerabilities, dict):
        reason = _npm_error(found) or _last_line(errors)
        return Answer("npm", not_asked=(f"everything ({reason})",))
    return Answer(
        "npm",
        asked_about=int(found["metadata"]["dependencies"]["total"]),
        holes=tuple(
            f"{name} {hole['range']}: {hole['severity']}, "
            + ("mended by `npm audit fix`" if hole["fixAvailable"] else "not mended yet")
            for name, hole in sorted(vulnerabilities.items())
        ),
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _lines(answer: Answer) -> Iterator[str]:
    yield from answer.holes
    yield from (f"could not be asked about {what}" for what in answer.not_asked)
    if answer.asked_about and not answer.holes:
        yield f"no known holes in {answer.asked_about} packages"


def _ask_pypi(root: Path) -> Answer:
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        export = ["export", "--frozen", "--quiet", "--all-groups", "--no-emit-project"]
        exported = _run([find_uv_bin(), *export, "--output-file", str(requirements)], root)
        if exported.returncode:
            raise ToolFailedError(f"uv.lock can't be read: {exported.stderr.strip()}")
        # All that is installed is in the file, with its hash: nothing needs to be resolved.
        options = ["--disable-pip", "--progress-spinner", "off", "--format", "json"]
        asked = _run([sys.executable, "-m", "pip_audit", *options, "-r", str(requirements)], root)
    return read_pip_audit(asked.stdout, asked.stderr)


def _ask_npm(root: Path) -> Answer:
    asked = _run([*node.npm_command(), "audit", "--json"], root)
    return read_npm_audit(asked.stdout, asked.stderr)


def _run(command: Sequence[str], root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        command,
        cwd=root,
        env=node.environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )


def _mapping(text: str) -> Mapping[str, Any]:
    """A JSON object; an empty one where the text is something else."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _npm_error(found: Mapping[str, Any]) -> str:
    error = found.get("error")
    summary = error.get("summary") if isinstance(error, dict) else None
    return str(found.get("message") or summary or "")


def _last_line(errors: str) -> str:
    return next(reversed(errors.strip().splitlines()), "it said nothing").strip()


def _mended_in(versions: Sequence[str]) -> str:
    return f"mended in {', '.join(versions)}" if versions else "not mended yet"
