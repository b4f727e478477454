"""The API description of docs/openapi.json, as the one-machine stack serves it."""

import sys
from pathlib import Path
from typing import Final

import orjson

import resources
from forebay.openapi import describe

_FILE: Final = "docs/openapi.json"


def render_file() -> bytes:
    """Return the file's content; the one-machine stack requires no API key."""
    document = describe(resources.load(), require_api_key=False)
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def write(root: Path) -> int:
    """Run `make openapi`: write the file of a checkout, and name it on standard error; return 0."""
    (root / _FILE).write_bytes(render_file())
    sys.stderr.write(f"wrote {_FILE}\n")
    return 0


def check(root: Path) -> int:
    """Return 1, with a message on standard error, if a checkout's file is out of date, or 0."""
    file = root / _FILE
    if file.is_file() and file.read_bytes() == render_file():
        return 0
    sys.stderr.write(f"{_FILE} is not up to date: run make openapi, and commit it\n")
    return 1
