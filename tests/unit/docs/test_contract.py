"""The pages on the contract agree with the code."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator

import orjson
import pytest

import resources
from forebay.codec import FORMAT_VERSION, MAX_LINE_BYTES, decode, encode
from forebay.command import Command
from forebay.db.schema import PIPELINE_SCHEMA, metadata
from forebay.decisions.effects import Effect
from forebay.decisions.rejections import Rejection
from forebay.ids import is_command_id, is_create_id
from forebay.intake.commands import MAX_BATCH_ITEMS
from forebay.problem import CATALOGUE
from forebay.query import cost, grammar, regex
from forebay.query.operators import IS_STATES, OPERATORS, QUANTIFIABLE
from forebay.query.representation import COUNTS, Media
from forebay.query.select import _CASTS
from forebay.resource.body import MAX_DEPTH
from forebay.resource.fields import MAX_KEY_LENGTH
from forebay.routes import routes
from lambdas.read.sql import limits
from lambdas.read.sql.page import PAGE_MAX_BYTES
from local.settings import ROOT
from tests.fixtures.pages import blocks, codes, first_codes, rows, section, text_of

PROBLEMS = text_of("docs/problems.md")
HTTP = text_of("docs/http.md")
ARCHIVE = text_of("docs/archive-format.md")
MIB = 1024 * 1024
READING = text_of("docs/reading.md")


def documented_problems() -> Iterator[tuple[str, int]]:
    for row in rows(PROBLEMS):
        if "Code" in row.cells and "At" in row.cells:
            status = row.cells.get("Status") or row.heading.partition(":")[0]
            yield codes(row.cells["Code"])[0], int(status)


def test_every_problem_is_documented_once_with_its_status() -> None:
    documented = list(documented_problems())
    assert len(documented) == len(dict(documented))
    assert dict(documented) == {code: status for code, (status, _) in CATALOGUE.items()}


def rejection_codes() -> Iterator[str]:
    """Yield every code that the core gives to a rejection, found in its source."""
    makers = {
        "BodyError",
        "InvalidLineError",
        "InvalidLine",
        "_CorruptError",
        "_invalid",
        "reject",
        "Refusal",
    }
    folders = ("forebay/apply", "forebay/archive", "forebay/decisions")
    files = [file for folder in folders for file in (ROOT / folder).glob("*.py")]
    for file in [*files, ROOT / "forebay/codec.py"]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            for argument in node.args if name in makers else ():
                value = argument.value if isinstance(argument, ast.Constant) else None
                if isinstance(value, str) and re.fullmatch(r"[a-z]+(_[a-z]+)+", value):
                    yield value


def test_every_reason_for_a_rejection_is_documented() -> None:
    names = set(rejection_codes())
    assert {"unknown_resource", "upcast_failed", "line_not_json", "object_corrupt"} <= names
    assert names <= set(first_codes(section(PROBLEMS, "## Why a command is rejected")))


def test_every_route_of_a_resource_is_in_the_contract() -> None:
    text = text_of("README.md")
    for route in routes(resources.load()):
        if not route.resource:
            assert f"`{route.method} {route.path}`" in HTTP, route.name
            continue
        path = route.path.replace(f"/{route.resource}", "/{resource}", 1)
        path = path.removesuffix(f"/{route.field}") + ("/{field}" if route.field else "")
        assert f"`{route.method} {path}`" in text, route.name
        assert f"{route.method} {path}" in HTTP, route.name


def test_every_parameter_and_operator_of_lists_is_documented() -> None:
    names = set(re.findall(r"[\w.-]+", " ".join(codes(section(READING, "## Parameters")))))
    assert {*grammar.LIST_PARAMETERS, *grammar.LIST_HEADERS} <= names
    names = set(re.findall(r"\w+", " ".join(codes(section(READING, "## Filters")))))
    assert {*OPERATORS, *IS_STATES, "any", "all"} <= names
    sentence = re.findall(r"[^.]*take several values", section(READING, "## Filters"))[0]
    assert codes(sentence) == list(QUANTIFIABLE)


def test_every_cast_count_and_media_type_of_lists_is_documented() -> None:
    assert {*_CASTS, *_CASTS.values()} <= set(codes(section(READING, "## What is shown: select")))
    names = codes(section(READING, "## How it is written"))
    assert {*(f"count={count}" for count in COUNTS), *Media} <= set(names)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (grammar.DEFAULT_LIMIT, "`limit` is {} unless given"),
        (f"{grammar.MAX_LIMIT:,}", "A `limit` above {} is not refused"),
        (grammar.MAX_DEPTH, "at most {} deep"),
        (grammar.MAX_CONDITIONS, "At most {}\nconditions in the whole request"),
        (grammar.MAX_MEMBERS, "At most {} members"),
        (grammar.MAX_ORDER_TERMS, "At most {} terms"),
        (f"{grammar.MAX_PARAMETER_LENGTH:,}", "A parameter's text has at most {} characters"),
        (cost.MAX_RELATIONS, "| relations in one request, at all levels | {} |"),
        (limits.RELATION_MAX_BYTES // MIB, "| {} MiB of one relation;"),
        (limits.RELATED_MAX_BYTES // MIB, "{} MiB of all, of which each"),
        (limits.REPEATED_MAX_BYTES // MIB, "at most {} MiB of an item"),
        (limits.REPEATS, "more than {} of them"),
        (PAGE_MAX_BYTES // MIB, "a page ends at {} MiB"),
        (cost.MAX_SEARCHES, "| {} values in one request |"),
        (f"{cost.MAX_PATTERN_LENGTH:,}", "a text search | {} characters each |"),
        (f"{cost.MAX_SEARCH_LENGTH:,}", "a text search | {} characters each |"),
        (f"{regex.MAX_REGEX_LENGTH:,}", "| a regular expression | {} characters"),
        (f"{regex.MAX_REGEX_ATOMS:,}", "{} atoms when its repetitions"),
    ],
)
def test_a_documented_limit_of_lists_is_the_code_s(value: object, sentence: str) -> None:
    assert sentence.format(value) in READING


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (grammar.DEFAULT_LIMIT, "| a page | {} items unless asked otherwise"),
        (f"{grammar.MAX_LIMIT:,}", "asked otherwise, {} at most |"),
        (MAX_BATCH_ITEMS, "| items in a batch | {} |"),
        (MAX_DEPTH, "| {} levels"),
        (MAX_KEY_LENGTH, "at most {} characters"),
        (f"{MAX_LINE_BYTES:,}", "| {} bytes, else 413 `command_too_large` |"),
    ],
)
def test_a_documented_limit_is_the_code_s(value: object, sentence: str) -> None:
    assert sentence.format(value) in HTTP


@pytest.mark.parametrize("page", ["docs/http.md", "docs/archive-format.md"])
def test_json_in_the_documentation_is_json(page: str) -> None:
    examples = blocks(text_of(page), "json")
    assert examples
    for example in examples:
        json.loads(example)


def test_problems_in_the_documentation_are_problems_of_ours() -> None:
    for example in blocks(HTTP, "json"):
        if "urn:forebay:problem:" in example:
            code = re.findall(r'"code":"(\w+)"', example)[0]
            assert f"urn:forebay:problem:{code}" in example
            assert f'"status":{CATALOGUE[code][0]}' in example
            assert f'"title":"{CATALOGUE[code][1]}"' in example


@pytest.mark.parametrize("example", blocks(ARCHIVE, "json"))
def test_the_documented_envelopes_are_lines_of_the_archive(example: str) -> None:
    command = decode(example.encode())
    assert encode(command) == example.encode()
    assert orjson.loads(example)["v"] == FORMAT_VERSION
    assert is_command_id(command.id)
    assert not is_create_id(command.id)


def test_every_member_of_envelopes_and_rejections_is_documented() -> None:
    envelope = first_codes(section(ARCHIVE, "## Lines: envelope, format 1"))
    condition = {"if", "match", "where", "after"}
    assert set(envelope) == {"v", *condition, *Command._fields} - {"condition"}
    log = first_codes(section(ARCHIVE, "## The decision log"))
    rejection = {field.name for field in dataclasses.fields(Rejection)}
    effect = set(Effect._fields)
    assert set(log) == {"rejected", "passed", "owner", "void", "database", *rejection, *effect}


def test_every_table_of_the_pipeline_is_documented() -> None:
    names = {
        table.name for table in metadata({}).tables.values() if table.schema == PIPELINE_SCHEMA
    }
    assert {*names, "alembic_version"} == set(first_codes(section(ARCHIVE, "## Pipeline tables")))
