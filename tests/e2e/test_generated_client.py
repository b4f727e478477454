"""A generated client of the served description works on the whole stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.generators import PINNED, Generators
from tests.fixtures.stack import RunningStack


@pytest.mark.timeout(1200)
def test_a_generated_client_writes_and_reads(
    stack: RunningStack, generators: Generators, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{stack.settings.ports.gateway}/v1"
    generators.run(
        [
            *("openapi-python-client", "generate", "--url", f"{address}/openapi.json"),
            *("--meta", "none", "--output-path", tmp_path / "client", "--fail-on-warning"),
        ],
        tmp_path,
    )
    script = PINNED / "live.py"
    generators.run(["python", "-W", "error", script, address], tmp_path, PYTHONPATH=str(tmp_path))
