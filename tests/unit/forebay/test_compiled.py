"""Compiled declarations behave like the declared ones, and need no pydantic."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import orjson
import pydantic_core
import pytest
from pydantic import AfterValidator, BaseModel, Field

import resources
from forebay.errors import DeclarationError, SettingsError
from forebay.resource import Key, Resource, ResourceSpec, compiled
from forebay.resource.body import BodyInvalidError, ValidItem
from infra.bundling import COMPILED, build_asset
from infra.compiling import compile_resources
from infra.settings import PackageName
from local.settings import ROOT
from tests.fixtures.hostile import TEXTS
from tests.unit.forebay.test_declaration import Everything, Shapes


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


class _Part(BaseModel):
    name: str
    parts: list[_Part] = []


class Odd(
    Resource,
    path="odd",
    schema_version=3,
    upcasters={1: lambda b: {**b, "a": 2}, 2: dict},
    patch_upcasters={2: lambda b: {**b, "a": 3}},
):
    """A resource with functions and with recursive models."""

    code: Annotated[str, Field(max_length=10, pattern="^[a-z]+$"), Key()]
    even: Annotated[int, AfterValidator(_even)]
    parts: list[_Part] = []  # noqa: RUF012 - pydantic copies it


class Nameless(Resource, path="nameless"):
    """A resource with a lambda, which has no importable name and therefore can't be compiled."""

    even: Annotated[int, AfterValidator(lambda value: value * 2)]


DECLARED = {
    **resources.load(),
    **{cls.spec_.path: cls.spec_ for cls in (Everything, Shapes, Odd, Nameless)},
}
COMPILED_SPECS: Mapping[str, ResourceSpec] = compiled.load(compiled.dump(DECLARED)) or {}

VALUES: list[Any] = [
    *(None, True, 0, 1, -1, 2.0, 5.5, 100, 101, 2**63, "", "a", "DE", "abcdef", "red", "s", "1.25"),
    *("0E-9", "2024-02-29", "2024-02-30", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00"),
    *("0001-01-01T00:00:00+15:00", "01890000-0000-7000-8000-000000000000", [], ["a"], [1], {}),
    *({"a": 1}, [{"name": "x", "parts": [{"name": "y"}]}], [{"name": "x", "parts": [1]}]),
    *TEXTS,
]
WHOLE = {
    "text": "a", "short": "a", "small": 1, "ratio": 1.5, "price": "1.25", "day": "2024-01-01",
    "other": "01890000-0000-7000-8000-000000000000", "extra": {"a": [1.5, None]}, "even": 2,
    "plain": "a", "words": [], "numbers": [], "moods": [], "colors": ["red"], "days": [],
    "anything": [], "unions": [], "nested": [], "members": {},
    "title": "a", "body": "a", "published_on": "2024-01-01",
    "name": "a", "country_code": "DE", "population": 1, "latitude": 1.5, "longitude": 1,
    "timezone": "a", "iso3": "DEU", "continent": "EU", "area_km2": 1,
}  # fmt: skip


def _outcome(spec: ResourceSpec, raw: bytes) -> object:
    try:
        read = spec.body.validate(raw)
    except BodyInvalidError as exc:
        return exc.faults
    return read, list(read.body)


def _bodies(spec: ResourceSpec) -> list[bytes]:
    whole = {field.name: WHOLE[field.name] for field in spec.fields if field.name in WHOLE}
    changed = [{**whole, column.name: value} for column in spec.columns for value in VALUES]
    lacking = [{n: v for n, v in whole.items() if n != missing} for missing in whole]
    encoded = [orjson.dumps(body) for body in (whole, {**whole, "more": 1}, {}, *changed, *lacking)]
    return [*encoded, b"[]", b"null", b'{"ratio": 1e400}', b'{"extra": {"a": "\\u0000"}}']


@pytest.mark.parametrize("path", DECLARED)
def test_bodies_are_read_as_by_the_declaration(path: str) -> None:
    declared, compiled_spec = DECLARED[path], COMPILED_SPECS[path]
    outcomes = [_outcome(compiled_spec, raw) for raw in _bodies(declared)]

    assert outcomes == [_outcome(declared, raw) for raw in _bodies(declared)]
    assert isinstance(outcomes[0], tuple)
    assert {type(outcome[0]).__name__ for outcome in outcomes if isinstance(outcome, tuple)} == {
        "ValidItem",
        "Fault",
    }, "the bodies tried should be of both kinds"


@pytest.mark.parametrize("path", DECLARED)
def test_patches_are_read_as_by_the_declaration(path: str) -> None:
    def outcome(spec: ResourceSpec, raw: bytes) -> object:
        try:
            return spec.body.validate_patch(raw)
        except BodyInvalidError as exc:
            return exc.faults

    declared, compiled_spec = DECLARED[path], COMPILED_SPECS[path]
    raws = [
        *_bodies(declared),
        *(b'{"%s":{"$increment":1}}' % f.name.encode() for f in declared.fields),
    ]
    outcomes = [outcome(compiled_spec, raw) for raw in raws]
    assert outcomes == [outcome(declared, raw) for raw in raws]
    assert outcome(compiled_spec, b"{}") == ValidItem({}, None)


@pytest.mark.parametrize("path", DECLARED)
def test_keys_are_read_as_by_the_declaration(path: str) -> None:
    def key(spec: ResourceSpec, text: str) -> object:
        try:
            return spec.body.read_key(text)
        except ValueError as exc:
            return str(exc)

    texts = [str(value) for value in VALUES]
    keys = [key(COMPILED_SPECS[path], text) for text in texts]
    assert keys == [key(DECLARED[path], text) for text in texts]


@pytest.mark.parametrize("path", DECLARED)
def test_a_compiled_spec_equals_the_declared_spec(path: str) -> None:
    declared, compiled_spec = DECLARED[path], COMPILED_SPECS[path]
    for field in fields(ResourceSpec):
        if field.name not in {"body", "upcasters", "patch_upcasters"}:
            assert getattr(compiled_spec, field.name) == getattr(declared, field.name)
    assert compiled_spec.body.json_schema() == declared.body.json_schema()
    assert set(compiled_spec.upcasters) == set(declared.upcasters)
    assert set(compiled_spec.patch_upcasters) == set(declared.patch_upcasters)


def test_upcasters_are_those_of_the_declaration_whether_they_have_a_name_or_not() -> None:
    upcasters = COMPILED_SPECS["odd"].upcasters
    assert upcasters[1]({"b": 1}) == {"b": 1, "a": 2}
    assert upcasters[2]({"b": 1}) == {"b": 1}
    assert COMPILED_SPECS["odd"].patch_upcasters[2]({"b": 1}) == {"b": 1, "a": 3}


class Twice(Resource, path="first"):
    """A class with a name that is assigned again to another class below."""

    a: int


FIRST = Twice


class Twice(Resource, path="second"):  # type: ignore[no-redef]
    """The class that the name refers to in the end."""

    b: str


def test_a_class_that_its_name_does_not_lead_to_is_refused_when_it_is_compiled() -> None:
    class Local(Resource, path="local"):
        a: int

    assert compiled.dump({"second": Twice.spec_})
    with pytest.raises(DeclarationError, match="Twice is a different class"):
        compiled.dump({"first": FIRST.spec_})
    with pytest.raises(DeclarationError, match=r"has no resource .*<locals>\.Local"):
        compiled.dump({"local": Local.spec_})


def test_specs_compiled_for_another_pydantic_core_are_not_read() -> None:
    data = compiled.dump(DECLARED)
    version = pydantic_core.__version__.encode()
    assert data.count(version) == 1
    assert compiled.load(data.replace(version, version + b".1")) is None


@pytest.mark.parametrize("function", ["write", "read"])
def test_a_function_that_clients_wait_for_starts_without_pydantic(
    tmp_path: Path, function: PackageName
) -> None:
    build_asset(function, tmp_path, with_dependencies=False)
    program = (
        f"import sys, resources, lambdas.{function}.handler; "
        "cities = resources.load()['cities']; cities.body.read_key('5'); "
        'cities.body.validate_patch(b\'{"population": {"$increment": 1}}\'); '
        "sys.exit('pydantic' in sys.modules)"
    )
    settings = {
        "FOREBAY_ENV": "test",
        "FOREBAY_STREAMS": "commands",
        "FOREBAY_ARCHIVE_BUCKET": "archive",
        "FOREBAY_DATABASE_URL": "postgresql://nobody@localhost/none",
        "FOREBAY_REPLICA_URL": "postgresql://nobody@localhost/none",
        "FOREBAY_AUTHORIZATION": "none",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }

    def runs() -> int:
        environment = {"PYTHONPATH": str(tmp_path), **settings}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode

    assert runs() == 0
    file = tmp_path / COMPILED
    file.write_bytes(b"pydantic-core 1.0\n" + file.read_bytes())
    assert runs() == 1, "it should import the declarations then"


def test_a_declaration_that_cannot_work_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "forebay").symlink_to(ROOT / "forebay")
    folder = tmp_path / "resources"
    folder.mkdir()
    (folder / "__init__.py").write_bytes((ROOT / "resources" / "__init__.py").read_bytes())
    (folder / "bad.py").write_text(
        "from forebay.resource import Resource\nclass Bad(Resource, path='Bad'):\n    a: int\n"
    )

    with pytest.raises(
        SettingsError, match=r"DeclarationError: Bad: path='Bad' must be a lower-case"
    ):
        compile_resources(tmp_path)


def test_a_declaration_that_is_corrected_within_a_second_is_compiled_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's cached bytecode has the time of its source in whole seconds, and its size."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    (tmp_path / "forebay").symlink_to(ROOT / "forebay")
    folder = tmp_path / "resources"
    folder.mkdir()
    (folder / "__init__.py").write_bytes((ROOT / "resources" / "__init__.py").read_bytes())
    source = "from forebay.resource import Resource\nclass Bad(Resource, path='{}'):\n    a: int\n"
    file, second = folder / "bad.py", time.time() // 1

    file.write_text(source.format("Bad"))
    os.utime(file, (second, second))
    with pytest.raises(SettingsError, match="path='Bad'"):
        compile_resources(tmp_path)
    file.write_text(source.format("bad"))
    os.utime(file, (second + 0.5, second + 0.5))
    assert compile_resources(tmp_path)


def test_the_same_declarations_are_compiled_to_the_same_bytes(tmp_path: Path) -> None:
    """Otherwise each deployment would replace functions, and each save would reload them."""
    (tmp_path / "forebay").symlink_to(ROOT / "forebay")
    folder = tmp_path / "resources"
    folder.mkdir()
    (folder / "__init__.py").write_bytes((ROOT / "resources" / "__init__.py").read_bytes())
    (folder / "pictures.py").write_text(_WITH_DEFINITIONS)
    assert compile_resources(tmp_path) == compile_resources(tmp_path)


#: pydantic names the definitions of these fields by the addresses of their classes.
_WITH_DEFINITIONS = """
from typing import Annotated
from pydantic import BaseModel
from forebay.resource import Attachment, Media, Resource

class Size(BaseModel):
    width: int
    height: int

class Picture(Resource, path="pictures"):
    title: str
    sizes: list[Size]
    file: Annotated[Attachment | None, Media("image/png", max_bytes=1000)] = None
"""
