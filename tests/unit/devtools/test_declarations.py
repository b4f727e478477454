"""Changes of a declaration that archived bodies don't fit are refused, with the next step."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import pytest
from pydantic import AfterValidator, BaseModel, Field

import resources
from devtools import declarations
from devtools.declarations import find_upcaster_problems
from forebay.db.schema import list_index_names
from forebay.errors import DeclarationError
from forebay.resource import Indexed, Key, Resource, Resources, shape
from forebay.resource.shape import Recorded, find_problems
from forebay.resource.spec import ResourceSpec
from local import migrations
from local.errors import DeclarationsError

Body = dict[str, Any]


def declare(
    *, version: int = 1, upcasters: Any = None, patch_upcasters: Any = None, **fields: Any
) -> ResourceSpec:
    """Declare `lakes` with the key `number` and the fields, each a type or (type, default)."""
    annotations = {"number": Annotated[int, Key()]}
    defaults = {}
    for name, declared in fields.items():
        annotations[name] = declared[0] if isinstance(declared, tuple) else declared
        if isinstance(declared, tuple):
            defaults[name] = declared[1]
    members = {"__annotations__": annotations, "__module__": __name__, **defaults}
    metaclass: Any = type(Resource)
    made = metaclass(
        "Lake",
        (Resource,),
        members,
        path="lakes",
        schema_version=version,
        upcasters=upcasters,
        patch_upcasters=patch_upcasters,
    )
    spec: ResourceSpec = made.spec_
    return spec


def record(*specs: ResourceSpec, before: dict[str, Recorded] | None = None) -> dict[str, Recorded]:
    declared = Resources({spec.path: spec for spec in specs})
    new_record = shape.update_record(before or {}, declared, list_index_names(declared))
    assert shape.load(shape.dump(new_record)) == new_record
    return new_record


def found(recorded: dict[str, Recorded], spec: ResourceSpec) -> list[str]:
    return list(find_problems(recorded, Resources({"lakes": spec})))


Text = Annotated[str, Field(max_length=20)]
Cents = Annotated[Decimal, Field(max_digits=8, decimal_places=2)]
OLD: Body = {
    "name": Text, "area": int, "depth": (int | None, None), "kind": (str, "lake"), "price": Cents,
    "small": Annotated[int, Field(ge=0, le=9)], "tags": (list[str], []),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": None}, "name was removed"),
        ({"name": None, "title": Text}, "name was removed; title is new, not nullable and has no"),
        ({"owner": str}, "owner is new, not nullable and has no default"),
        ({"area": float}, "area was integer and is float"),
        ({"depth": int}, "depth can't be null any more"),
        ({"kind": str}, "kind has another default"),
        ({"kind": (str, "pond")}, "kind has another default"),
        ({"depth": (int | None, 3)}, "depth has another default"),
        ({"name": Annotated[str, Field(max_length=19)]}, "name is at most 19 characters long"),
        ({"kind": (Annotated[str, Field(max_length=9)], "lake")}, "kind is at most 9 characters"),
        ({"area": Annotated[int, Field(ge=0, le=9)]}, "area has 32 bits only"),
        ({"price": Annotated[Decimal, Field(max_digits=8, decimal_places=3)]}, "price has fewer"),
        ({"price": Annotated[Decimal, Field(max_digits=7, decimal_places=1)]}, "price has fewer"),
        ({"tags": (dict[str, str], {})}, "tags has another default"),
    ],
)
def test_a_change_that_old_bodies_do_not_fit_is_refused(change: Body, reason: str) -> None:
    declared = {name: kind for name, kind in {**OLD, **change}.items() if kind is not None}
    (problem,) = found(record(declare(**OLD)), declare(**declared))
    assert reason in problem
    assert "Set schema_version=2 and add an upcaster from 1" in problem
    new = declare(version=2, upcasters={1: lambda body: body}, **declared)
    assert found(record(declare(**OLD)), new) == []


@pytest.mark.parametrize(
    "change",
    [
        {"owner": (str | None, None)},
        {"owner": (str, "nobody")},
        {"owner": str | None},
        {"name": Annotated[str, Field(max_length=30)]},
        {"name": str},
        {"name": (Text, "x")},
        {"area": int | None},
        {"area": Annotated[int, Field(ge=5)]},
        {"small": int},
        {"price": Annotated[Decimal, Field(max_digits=10, decimal_places=3)]},
        {"depth": (Annotated[int | None, Indexed()], None)},
    ],
)
def test_a_change_that_old_bodies_fit_needs_nothing(change: Body) -> None:
    assert found(record(declare(**OLD)), declare(**{**OLD, **change})) == []


def test_a_resource_that_is_gone_must_be_declared_retired() -> None:
    recorded = record(declare(**OLD))
    (problem,) = find_problems(recorded, Resources())
    assert 'Replace its class by `lakes = Retired("lakes")`' in problem
    assert list(find_problems(recorded, Resources(retired=["lakes"]))) == []


def test_another_type_of_key_is_refused() -> None:
    class Lake(Resource, path="lakes", schema_version=2, upcasters={1: dict}):
        code: Annotated[str, Field(max_length=9), Key()]
        name: Text

    (problem,) = found(record(declare(name=Text)), Lake.spec_)
    assert "the key was integer and is text" in problem


def test_a_schema_version_is_never_lowered() -> None:
    new = declare(version=2, upcasters={1: lambda body: body}, name=Text)
    (problem,) = found(record(new), declare(name=Text))
    assert "schema_version is 1, but 2 is recorded" in problem


def test_a_recorded_version_keeps_every_body_that_it_ever_allowed() -> None:
    first = record(declare(name=Text))
    wider = record(declare(name=Annotated[str, Field(max_length=30)]), before=first)
    schemas = wider["lakes"].versions[1].fields["name"].schemas
    assert [schema["maxLength"] for schema in schemas] == [20, 30]


def test_a_damaged_record_is_named() -> None:
    with pytest.raises(DeclarationError, match=r"resources/shapes\.json can't be read"):
        shape.load(b'{"lakes": {}}')


def up(old: Body, new: Body, upcaster: Callable[[Body], Any]) -> list[str]:
    spec = declare(version=2, upcasters={1: upcaster}, **new)
    return list(find_upcaster_problems(record(declare(**old)), {"lakes": spec}))


def split(body: Body) -> Body:
    given, _, family = body.pop("name").rpartition(" ")
    return {**body, "given": given, "family": family}


def test_an_upcaster_whose_bodies_fit_passes() -> None:
    assert up({"name": Text}, {"given": Text, "family": Text}, split) == []


@pytest.mark.parametrize(
    ("old", "new", "upcaster", "reason"),
    [
        ({"name": Text}, {"given": Text, "rest": Text}, split, "the resource has no field family"),
        ({"name": Text}, {"title": Text}, lambda _: {}, "the body lacks title"),
        ({"name": Text}, {"name": int}, lambda body: body, "name is not an integer"),
        ({"name": Text}, {"name": int}, lambda body: {"name": int(body["name"])}, "ValueError"),
        ({"name": Text}, {"title": Text}, lambda body: {"title": body["nam"]}, "KeyError('nam')"),
        ({"name": Text}, {"title": Text}, lambda _: None, "is not an object"),
        (
            {"name": Text},
            {"title": Text},
            lambda body: {"title": body["name"] + "!"},
            "title is longer than 20 characters",
        ),
        (
            {"depth": (int | None, None)},
            {"depth": int},
            lambda body: {"depth": body["depth"]},
            "depth is null",
        ),
        ({"area": int}, {"area": int}, lambda body: {"area": body["area"] * 2}, "too large for"),
        (
            {"kind": Literal["a", "b"]},
            {"kind": Literal["a", "c"]},
            lambda body: body,
            "kind: Input should be 'a' or 'c'",
        ),
        ({"area": int}, {"area": Cents}, lambda body: {"area": str(body["area"])}, "too large"),
        (
            {"a": dt.date},
            {"a": dt.datetime},
            lambda body: {"a": body["a"] + "x"},
            "not a timestamp",
        ),
        ({"name": Text}, {"name": Text}, lambda body: {"name": {body["name"]}}, "not JSON"),
    ],
)
def test_a_wrong_upcaster_is_found_and_shown_with_a_body(
    old: Body, new: Body, upcaster: Callable[[Body], Any], reason: str
) -> None:
    (problem,) = up(old, new, upcaster)
    assert reason in problem
    assert problem.startswith("Lake: for a body of schema version 1, ")
    assert isinstance(orjson.loads(problem.rpartition("the input was ")[2]), dict)


def rename(body: Body) -> Body:
    return {"title" if name == "name" else name: value for name, value in body.items()}


@pytest.mark.parametrize(
    ("upcaster", "reason"),
    [
        (lambda body: {"title": body.pop("name"), **body}, "KeyError('name')"),
        (lambda body: body, "name: Extra inputs are not permitted"),
        (lambda body: {**rename(body), "size": 1}, "size: Extra inputs are not permitted"),
        (lambda body: {n: str(v) for n, v in rename(body).items()}, "area: "),
        (lambda body: {**rename(body), "area": body.get("area", 0) + 1}, "TypeError"),
        (lambda _: None, "is not an object"),
    ],
)
def test_a_wrong_upcaster_of_patches_is_found_and_shown_with_a_patch(
    upcaster: Callable[[Body], Any], reason: str
) -> None:
    new: Body = {"title": Text, "area": int}
    shapes = record(declare(name=Text, area=int))
    good = declare(version=2, upcasters={1: rename}, patch_upcasters={1: rename}, **new)
    assert list(find_upcaster_problems(shapes, {"lakes": good})) == []
    bad = declare(version=2, upcasters={1: rename}, patch_upcasters={1: upcaster}, **new)
    (problem,) = find_upcaster_problems(shapes, {"lakes": bad})
    assert reason in problem
    assert problem.startswith("Lake: for a patch of schema version 1, ")
    assert isinstance(orjson.loads(problem.rpartition("the input was ")[2]), dict)


class Line(BaseModel):
    """A part of a list."""

    article: Annotated[str, Field(pattern="^[A-Z]{2}-[0-9]{3}$")]
    count: Annotated[int, Field(ge=1)]


def test_bodies_are_made_as_the_old_version_took_them() -> None:
    """Patterns, nested models, formats and every kind of field."""
    seen: list[Body] = []

    def keep(body: Body) -> Body:
        seen.append(body)
        return body

    fields = {
        "lines": list[Line], "code": Annotated[str, Field(pattern="^[a-z]{3}$")], "price": Cents,
        "day": dt.date, "moment": dt.datetime, "token": uuid.UUID, "flag": bool,
        "ratio": Annotated[float, Field(ge=0, lt=1)], "more": dict[str, int], "others": list[Any],
        "small": Annotated[int, Field(ge=0, le=9)], "named": Literal["x", "y"],
    }  # fmt: skip

    assert up(fields, fields, keep) == []
    assert len(seen) >= 50
    assert any(line["count"] > 1 for body in seen for line in body["lines"])
    assert {body["named"] for body in seen} == {"x", "y"}


def test_a_declaration_s_own_function_is_not_held_against_made_bodies() -> None:
    def no_vowel(text: str) -> str:
        if set(text) & set("aeiou"):
            raise ValueError("a vowel")
        return text

    guarded = Annotated[str, Field(max_length=20), AfterValidator(no_vowel)]
    assert up({"name": guarded}, {"name": guarded}, lambda body: body) == []


@dataclass
class Checkout:
    """A checkout with a record; the test replaces its declarations and alembic."""

    root: Path
    patch: pytest.MonkeyPatch
    ran: list[Sequence[str]] = field(default_factory=list)

    def write(self, *specs: ResourceSpec) -> None:
        (self.root / "resources").mkdir(exist_ok=True)
        (self.root / shape.FILE).write_bytes(shape.dump(record(*specs)))

    def declare(self, *specs: ResourceSpec, code: int = 0) -> None:
        def run_alembic(arguments: Sequence[str]) -> int:
            self.ran.append(arguments)
            return code

        declared = Resources({spec.path: spec for spec in specs})
        self.patch.setattr(resources, "load", lambda: declared)
        self.patch.setattr(migrations, "run_alembic", run_alembic)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    return Checkout(tmp_path, monkeypatch)


def upside_down(body: Body) -> Body:
    return {"title": body["name"] * 2}


def test_a_start_is_refused_with_a_wrong_upcaster(checkout: Checkout) -> None:
    checkout.write(declare(name=Text))
    checkout.declare(declare(version=2, upcasters={1: upside_down}, title=Text))
    with pytest.raises(DeclarationError, match="title is longer than 20 characters"):
        declarations.check_before_start(checkout.root)


def test_make_migration_keeps_the_record_and_make_check_wants_it_current(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.write(declare(name=Text))
    checkout.declare(declare(name=Text, size=(int, 1)))
    assert declarations.check(checkout.root) == 1
    assert "resources/shapes.json is not up to date" in capsys.readouterr().err

    assert migrations.write_migration("Add a size", checkout.root) == 0
    assert checkout.ran == [["revision", "--autogenerate", "-m", "Add a size"]]
    assert declarations.check(checkout.root) == 0


def test_make_migration_writes_nothing_that_old_bodies_do_not_fit(checkout: Checkout) -> None:
    checkout.write(declare(name=Text))
    before = (checkout.root / shape.FILE).read_bytes()
    checkout.declare(declare(title=Text))
    with pytest.raises(DeclarationsError, match="name was removed"):
        migrations.write_migration("Rename", checkout.root)
    assert declarations.check(checkout.root) == 1
    assert (checkout.ran, (checkout.root / shape.FILE).read_bytes()) == ([], before)


def test_a_migration_that_was_not_written_is_not_recorded(checkout: Checkout) -> None:
    checkout.declare(declare(name=Text), code=1)
    assert migrations.write_migration("Add lakes", checkout.root) == 1
    assert not (checkout.root / shape.FILE).exists()
