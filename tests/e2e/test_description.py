"""The API conforms to its description: Schemathesis tests it, with all of its checks.

A failure is fixed in the description or in the code. tests/e2e/schemathesis.toml has the settings
that Schemathesis needs in addition, each with its reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import resources
from local.settings import ROOT
from tests.fixtures.project import PROJECT
from tests.fixtures.stack import RunningStack

CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
#: Request parts in which Schemathesis must have sent invalid values.
FORBIDDEN = {
    *("path of a read", "query of a read", "header of a read"),
    *("path of a write", "header of a write", "body of a write"),
}
#: Has each kind of route. The coverage phase tries each value of each parameter, with thousands of
#: cases for the filters of lists; `make test` runs it for one resource, `make test-long` for all.
COVERED = "pictures"
#: Where hypothesis keeps its tables of Unicode, which take seconds to make.
_STORAGE = ROOT / ".hypothesis"
#: The stack has the resources of the tests, and so must the hooks.
_PYTHONPATH = os.pathsep.join(map(str, (PROJECT, ROOT)))


def try_all(
    stack: RunningStack, folder: Path, *options: str, configuration: Path = CONFIGURATION
) -> None:
    """Run all phases of Schemathesis on the served document; fail with its whole output."""
    address = f"http://127.0.0.1:{stack.settings.ports.gateway}/v1/openapi.json"
    process = subprocess.run(
        [
            *(Path(sys.executable).parent / "schemathesis", "--config-file", configuration),
            *("run", address, "--continue-on-failure", "--no-color", *options),
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": _PYTHONPATH,
            "HYPOTHESIS_STORAGE_DIRECTORY": str(_STORAGE),
            "FOREBAY_TRIED": str(folder / "tried"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    # Invalid values were sent in every part, not only valid values.
    assert set((folder / "tried").read_text().splitlines()) >= FORBIDDEN
    # No operation was skipped, except the document itself, from which Schemathesis read the others.
    assert "disabled" not in process.stdout
    paths = stack.send("GET", "/openapi.json").json()["paths"]
    assert f"Tested: {sum(len(item) for item in paths.values()) - 1}" in process.stdout


@pytest.mark.timeout(600)
def test_no_check_fails(stack: RunningStack, tmp_path: Path) -> None:
    """Test the same cases in every run; `make test-long` tests new cases."""
    configuration = tmp_path / "schemathesis.toml"
    others = "|".join(sorted(resources.load().keys() - {COVERED}))
    rule = f"[[operations]]\ninclude-path-regex = '^/(query/)?({others})(/|$)'\n"
    text = f"{CONFIGURATION.read_text()}\n{rule}phases.coverage.enabled = false\n"
    configuration.write_text(text)
    options = ("--max-examples", "8", "--seed", "1", "--generation-deterministic")
    try_all(stack, tmp_path, *options, configuration=configuration)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_check_fails_for_any_tried_request(stack: RunningStack, tmp_path: Path) -> None:
    try_all(stack, tmp_path, "--max-examples", "200")
