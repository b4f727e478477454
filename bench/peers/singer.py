"""Meltano's target-postgres, in a virtual environment of its own, with versions of its own.

It loads into its own table and creates the primary key; the table gets the same index as Forebay's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from uv import find_uv_bin

from forebay.db.connect import Connection
from local.settings import ROOT

SCHEMA = "bench_singer"
REQUIREMENTS = Path(__file__).with_name("target-postgres.txt")
_FOLDER = ROOT / ".build" / "bench-target-postgres"


class Singer:
    """Upserts Singer records."""

    def __init__(self, url: str, connection: Connection, folder: Path) -> None:
        self._program = _install()
        self._connection = connection
        self._config = folder / "target-postgres.json"
        parts = urlsplit(url)
        self._config.write_text(
            json.dumps(
                {
                    "host": parts.hostname,
                    "port": parts.port,
                    "user": parts.username,
                    "password": parts.password,
                    "database": parts.path.lstrip("/"),
                    "default_target_schema": SCHEMA,
                    "add_record_metadata": False,
                    "activate_version": False,
                    "hard_delete": False,
                    "load_method": "upsert",
                    "use_copy": True,
                }
            ),
            encoding="utf-8",
        )
        #: The time of a run with one record: the process's start, which is not part of the loading.
        self.start_seconds = 0.0

    def messages(self, rows: Sequence[dict[str, Any]]) -> bytes:
        """The rows as Singer messages."""
        schema = {"type": "object", "properties": _PROPERTIES}
        head = {"type": "SCHEMA", "stream": "orders", "schema": schema, "key_properties": ["id"]}
        lines = [{"type": "RECORD", "stream": "orders", "record": row} for row in rows]
        return "\n".join(map(json.dumps, [head, *lines])).encode() + b"\n"

    def prepare(self, rows: Sequence[dict[str, Any]]) -> None:
        """Let it create its table, add the index of Forebay's, and measure its start."""
        one_row = self.messages(rows[:1])
        self._run(one_row)
        self._connection.execute(f"CREATE INDEX ON {SCHEMA}.orders (customer)".encode())
        self.start_seconds = min(self._run(one_row) for _ in range(3))

    def empty(self) -> None:
        """Empty its table."""
        self._connection.execute(f"TRUNCATE {SCHEMA}.orders".encode())

    def load(self, messages: bytes) -> float:
        """Load the messages; return the seconds without the start."""
        return self._run(messages) - self.start_seconds

    def _run(self, messages: bytes) -> float:
        start = time.perf_counter()
        process = subprocess.run(  # noqa: S603 - a program that we installed
            [str(self._program), "--config", str(self._config)],
            input=messages,
            capture_output=True,
            check=False,
        )
        if process.returncode != 0:
            raise RuntimeError(f"target-postgres: {process.stderr.decode()[-2000:]}")
        return time.perf_counter() - start


def versions() -> dict[str, str]:
    """The pinned versions."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    return {name: pins[name] for name in ("meltanolabs-target-postgres", "singer-sdk")}


def _install() -> Path:
    program = _FOLDER / "bin" / "target-postgres"
    stamp = _FOLDER / REQUIREMENTS.name
    requirements = REQUIREMENTS.read_text(encoding="utf-8")
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != requirements:
        uv, python = find_uv_bin(), _FOLDER / "bin" / "python"
        for arguments in (
            ["venv", "--quiet", "--clear", "--python", sys.executable, str(_FOLDER)],
            ["pip", "install", "--quiet", "--python", str(python), "-r", str(REQUIREMENTS)],
        ):
            subprocess.run([uv, *arguments], check=True)  # noqa: S603 - fixed arguments
        stamp.write_text(requirements, encoding="utf-8")
    return program


_TEXT = {"type": ["string", "null"]}
_PROPERTIES = {
    "id": {"type": "string", "format": "uuid"},
    "customer": {"type": "string", "maxLength": 20},
    "sku": {"type": "string", "maxLength": 20},
    "quantity": {"type": "integer"},
    "price": {"type": "string"},
    "paid": {"type": "boolean"},
    "placed_on": {"type": "string", "format": "date"},
    "note": _TEXT,
    "_version": {"type": "string", "format": "uuid"},
    "_by_create": {"type": "boolean"},
}
