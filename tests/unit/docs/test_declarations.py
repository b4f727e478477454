"""The declarations that the pages show are valid, and their examples of mistakes are refused."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

import pytest

from forebay.errors import DeclarationError
from forebay.resource import Kind, Resource
from forebay.resource.declaration import _RESERVED_PATHS
from forebay.resource.fields import RESERVED_NAMES
from resources.cities import City
from tests.fixtures.pages import blocks, codes, rows, section, text_of

PAGE = text_of("docs/resources.md")
HEAD = """\
from decimal import Decimal
from typing import Annotated
from pydantic import Field
from forebay.resource import Indexed, Key, References, Resource, Unique

class River(Resource, path="rivers"):
    other: int = 1
    {declared}
"""


def load(source: str, folder: Path) -> ModuleType:
    """Load a source text as a module, as from a file."""
    file = folder / f"declared_{abs(hash(source))}.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[file.stem]
    return module


def test_the_readme_s_example_is_the_file_s() -> None:
    (example,) = blocks(text_of("README.md"), "python")
    assert example == inspect.getsource(City)


def test_the_examples_are_resources(tmp_path: Path) -> None:
    specs = {
        name: value.spec_
        for block in blocks(PAGE, "python")
        for name, value in vars(load(block, tmp_path)).items()
        if isinstance(value, type) and issubclass(value, Resource) and value is not Resource
    }
    assert list(specs) == ["River", "Order", "Author", "Book"]
    old = {"name": "Ada King Lovelace"}
    new = specs["Author"].upcasters[1](old)
    assert new == {"given_name": "Ada King", "family_name": "Lovelace"}
    assert new.keys() == {field.name for field in specs["Author"].fields}
    upcast = specs["Book"].patch_upcasters[1]
    assert (upcast({}), upcast({"name": "x"})) == ({}, {"title": "x"})


MISTAKES = [
    (codes(row.cells["Mistake"])[0], codes(row.cells["Message"])[0])
    for row in rows(section(PAGE, "## Mistakes"))
    if codes(row.cells["Mistake"]) and ": " in codes(row.cells["Mistake"])[0]
]


@pytest.mark.parametrize(("declared", "message"), MISTAKES, ids=[case[0] for case in MISTAKES])
def test_a_documented_mistake_is_refused_in_these_words(
    declared: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DeclarationError) as refused:
        load(HEAD.format(declared=declared), tmp_path)
    assert str(refused.value).startswith(message.removesuffix("…"))


def test_there_are_mistakes_to_look_at() -> None:
    assert len(MISTAKES) > 5


def test_every_kind_of_value_has_a_type_that_is_documented() -> None:
    types = " ".join(row.cells["Column"] for row in rows(section(PAGE, "## Fields")))
    columns = {
        Kind.TEXT: "text",
        Kind.INTEGER: "bigint",
        Kind.FLOAT: "double precision",
        Kind.DECIMAL: "numeric(p,s)",
        Kind.BOOLEAN: "boolean",
        Kind.DATE: "date",
        Kind.TIMESTAMP: "timestamptz",
        Kind.UUID: "uuid",
        Kind.JSON: "jsonb",
    }
    assert set(columns) == set(Kind)
    assert [column for column in columns.values() if f"`{column}`" not in types] == []


def test_every_reserved_name_and_path_is_documented() -> None:
    assert [name for name in RESERVED_NAMES if name not in section(PAGE, "## Fields")] == []
    assert [path for path in _RESERVED_PATHS if f"`{path}`" not in PAGE] == []
