"""Client generators make complete clients of the API description, without a warning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from devtools.openapi import render_file
from tests.fixtures.generators import PINNED, Generators

DESCRIBED: dict[str, Any] = json.loads(render_file())
SCHEMAS: dict[str, Any] = DESCRIBED["components"]["schemas"]
OPERATIONS = {
    operation["operationId"]: operation["tags"][0]
    for item in DESCRIBED["paths"].values()
    for operation in item.values()
}
MODELS = {name for name, schema in SCHEMAS.items() if schema["type"] == "object"}

pytestmark = [pytest.mark.xdist_group("generators"), pytest.mark.timeout(1200)]


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A file with the API description of the tests' resources."""
    file = tmp_path / "openapi.json"
    file.write_bytes(render_file())
    return file


def test_openapi_python_client_drops_nothing(
    generators: Generators, document: Path, tmp_path: Path
) -> None:
    printed = generators.run(
        [
            *("openapi-python-client", "generate", "--path", document, "--meta", "none"),
            *("--output-path", tmp_path / "client", "--fail-on-warning"),
        ],
        tmp_path,
    )
    assert "warning" not in printed.lower()
    files = {path.relative_to(tmp_path / "client") for path in tmp_path.rglob("*.py")}
    wanted = {Path(f"api/{tag}/{name}.py") for name, tag in OPERATIONS.items()}
    assert wanted <= files
    check = [
        "from client import models",
        f"missing = {sorted(MODELS)!r} - vars(models).keys()".replace("[", "{").replace("]", "}"),
        "assert not missing, missing",
        "status = models.Announcement.__annotations__['status']",
        "assert status == 'str', status",
        *(f"import client.api.{tag}.{name}" for name, tag in OPERATIONS.items()),
    ]
    generators.run(["python", "-W", "error", "-c", "\n".join(check)], tmp_path)


def test_datamodel_code_generator_makes_every_model(
    generators: Generators, document: Path, tmp_path: Path
) -> None:
    printed = generators.run(
        [
            *("datamodel-codegen", "--input", document, "--input-file-type", "openapi"),
            *("--output", tmp_path / "models.py", "--output-model-type", "pydantic_v2.BaseModel"),
            *("--formatters", "builtin"),
        ],
        tmp_path,
    )
    assert printed == ""
    kept: dict[str, str | None] = {
        "id": "6f0d4b8e-3a55-4c2c-9d3e-0d8f3c2b7a11",
        "title": "t",
        "body": "b",
    }
    kept |= {"published_on": "2026-11-21", "expires_at": None, "status": "abandoned"}
    check = [
        "import models",
        f"missing = set({sorted(SCHEMAS)!r}) - vars(models).keys()",
        "assert not missing, missing",
        f"kept = models.Announcement.model_validate({ {**kept, 'pinned': True, 'tags': ['a']} })",
        "assert (kept.status, kept.tags) == ('abandoned', ['a'])",
    ]
    generators.run(["python", "-W", "error", "-c", "\n".join(check)], tmp_path)


def test_openapi_typescript_and_openapi_fetch_make_a_client_that_type_checks(
    generators: Generators, document: Path, tmp_path: Path
) -> None:
    """Invalid types must not compile: `client.ts` marks each expected error."""
    for file in ("client.ts", "tsconfig.json"):
        shutil.copy(PINNED / "client" / file, tmp_path)
    (tmp_path / "node_modules").symlink_to(generators.packages)
    printed = generators.run_node(
        "openapi-typescript/bin/cli.js",
        # A request may omit a field with a default.
        *(document, "--default-non-nullable", "false", "--output", "api.ts"),
        folder=tmp_path,
    )
    assert "warn" not in printed.lower()
    text = (tmp_path / "api.ts").read_text()
    for name in (*OPERATIONS, *SCHEMAS):
        assert f" {name}: " in text, name
    generators.run_node("typescript/bin/tsc", "--project", ".", folder=tmp_path)
