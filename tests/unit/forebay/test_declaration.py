"""A mistake in a declaration fails at import, with the names of class and field."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

import resources
from forebay.errors import DeclarationError
from forebay.resource import Index, Indexed, Key, Kind, References, Resource, Unique, discover
from forebay.routes import routes


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Everything(Resource, path="everything", indexes=[Index("small", "day")]):
    """One field of each kind."""

    code: Annotated[str, Field(max_length=10), Key()]
    text: str
    short: Annotated[str, Field(max_length=5, pattern="^a"), Unique()]
    small: Annotated[int, Field(ge=0, le=100), Indexed()]
    large: int = 5
    ratio: float
    price: Annotated[Decimal, Field(max_digits=10, decimal_places=2)]
    flag: bool = False
    day: dt.date
    moment: dt.datetime | None = None
    other: uuid.UUID
    color: Color = Color.RED
    size: Literal["s", "m"] = "s"
    things: list[int] = []  # noqa: RUF012 - pydantic copies it
    extra: dict[str, Any]


class Shapes(Resource, path="shapes"):
    """A field for each form of JSON."""

    plain: str
    words: list[Annotated[str, Field(max_length=5)]]
    numbers: list[int]
    moods: list[Literal["a", "b"]]
    colors: list[Color]
    days: list[dt.date]
    anything: list  # type: ignore[type-arg]
    unions: list[int | str]
    nested: list[list[int]]
    members: dict[str, int]
    maybe: Annotated[list[str] | None, Field(max_length=5)] = None


def test_each_type_has_its_column_type() -> None:
    types = {column.name: column.sql_type for column in Everything.spec_.columns}
    assert types == {
        "code": "varchar(10)",
        "text": "text",
        "short": "varchar(5)",
        "small": "integer",
        "large": "bigint",
        "ratio": "double precision",
        "price": "numeric(10,2)",
        "flag": "boolean",
        "day": "date",
        "moment": "timestamptz",
        "other": "uuid",
        "color": "text",
        "size": "text",
        "things": "jsonb",
        "extra": "jsonb",
    }


def test_defaults_are_in_json_terms() -> None:
    defaults = {f.name: f.default for f in Everything.spec_.fields if not f.required}
    assert defaults == {
        "large": 5,
        "flag": False,
        "moment": None,
        "color": "red",
        "size": "s",
        "things": [],
    }


def test_a_body_of_every_type_is_read_exactly() -> None:
    raw = (
        b'{"text":"t","short":"ab","small":1,"ratio":1,"price":"12345678.90","day":"2026-02-28",'
        b'"moment":"2026-02-28T10:00:00Z","other":"0199F0C2-0000-7000-8000-000000000000",'
        b'"color":"blue","extra":{"a":[1.5,null]}}'
    )
    body = Everything.spec_.body.validate(raw).body
    assert body["price"] == "12345678.90"
    assert body["other"] == "0199f0c2-0000-7000-8000-000000000000"
    assert (body["color"], body["size"], body["ratio"], body["large"]) == ("blue", "s", 1.0, 5)
    assert body["extra"] == {"a": [1.5, None]}


def declare(body: str, **arguments: Any) -> None:
    """Declare a class from the text of its body, as a file in resources/ would."""
    namespace = {**globals(), "arguments": arguments}
    exec(  # noqa: S102 - a class statement whose annotations the test chooses
        "class Wrong(Resource, **arguments):\n    " + body.replace("\n", "\n    "), namespace
    )


WRONG_FIELDS = {
    "unsupported type": ("field: bytes", "field"),
    "naive union": ("field: int | str", "field"),
    "limits inside the union": ("field: Annotated[str, Field(max_length=3)] | None", "field"),
    "Decimal without digits": ("field: Decimal", "field"),
    "Decimal with more places than digits": (
        "field: Annotated[Decimal, Field(max_digits=2, decimal_places=3)]",
        "field",
    ),
    "str key without length": ("field: Annotated[str, Key()]\nother: int", "field"),
    "float key": ("field: Annotated[float, Key()]\nother: int", "field"),
    "null key": ("field: Annotated[int | None, Key()]\nother: int", "field"),
    "key with a default": ("field: Annotated[int, Key()] = 5\nother: int", "field"),
    "two keys": (
        "field: Annotated[int, Key()]\nsecond: Annotated[int, Key()]\nother: int",
        "second",
    ),
    "reserved name": ("order: int", "order"),
    "capital letter": ("Field_: int", "Field_"),
    "id without key": ("id: int", "id"),
    "bad default": ('field: Annotated[str, Field(max_length=2)] = "long"', "field"),
    "default of another type": ('field: int = "5"', "field"),
    "default of the moment": ("field: str = Field(default_factory=lambda: 'a')", "field"),
    "bound beyond 64 bits": ("field: Annotated[int, Field(le=2**64)]", "field"),
    "index on unbounded text": ("field: Annotated[str, Indexed()]", "field"),
    "unique JSON": ("field: Annotated[list[int], Unique()]", "field"),
    "mark without parentheses": ("field: Annotated[int, Unique]", "field"),
    "alias": ('field: Annotated[int, Field(alias="other")]', "field"),
    "number enum": ("field: Literal[1, 2]", "field"),
}


@pytest.mark.parametrize("case", WRONG_FIELDS)
def test_a_wrong_field_is_named_with_its_class(case: str) -> None:
    body, field = WRONG_FIELDS[case]
    with pytest.raises(DeclarationError, match=rf"Wrong\.{field}"):
        declare(body, path="wrong")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"path": "Wrong"},
        {"path": "a/b"},
        {"path": "docs"},
        {"path": "not"},
        {"path": "wrong", "schema_version": 0},
        {"path": "wrong", "schema_version": 2},
        {"path": "wrong", "upcasters": {1: dict}},
        {"path": "wrong", "schema_version": 2, "upcasters": {1: "not callable"}},
        {"path": "wrong", "patch_upcasters": {1: dict}},
        {
            "path": "wrong",
            "schema_version": 2,
            "upcasters": {1: dict},
            "patch_upcasters": {2: dict},
        },
        {
            "path": "wrong",
            "schema_version": 2,
            "upcasters": {1: dict},
            "patch_upcasters": {1: "not callable"},
        },
        {"path": "wrong", "indexes": [Index("missing")]},
        {"path": "wrong", "indexes": ["field"]},
    ],
)
def test_a_wrong_class_argument_is_named_with_the_class(arguments: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match=r"^Wrong"):
        declare("field: int", **arguments)


def test_a_resource_without_a_field_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"^Wrong"):
        declare("field: Annotated[int, Key()]", path="wrong")


def package(folder: Path, **modules: str) -> list[str]:
    head = (
        "from typing import Annotated\nfrom uuid import UUID\nfrom pydantic import Field\n"
        "from forebay.resource import Key, References, Resource\n"
    )
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(head + text)
    (folder / "__init__.py").touch()
    return [str(folder)]


def referring(arguments: str) -> str:
    return (
        f"class B(Resource, path='b'):\n    x: Annotated[int, References('a', {arguments})]\n"
        "    y: Annotated[int, References('a', name='z')]\n"
    )


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("class B(Resource, path='a'):\n    x: int\n", "clashes"),
        ("class B(Resource, path='b'):\n    x: Annotated[int, References('c')]\n", "B.x"),
        ("class B(Resource, path='b'):\n    x: Annotated[str, References('a')]\n", "B.x"),
        (referring("name='X'"), "B.x: the reference's name 'X' must be a lower-case word"),
        (referring("name='select'"), "B.x: the reference's name 'select' is the name of a query"),
        (referring("name='y'"), "B.x: the reference's name 'y' is the name of a field"),
        (referring("name='z'"), "B.x: the reference's name 'z' is the name of another relation"),
        (
            "class B(Resource, path='b'):\n    x: Annotated[UUID, References('b', name='b')]\n",
            "B.x: the reference's name 'b' is the name of the reverse relation",
        ),
    ],
)
def test_resources_that_do_not_fit_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str, message: str
) -> None:
    folder = tmp_path / f"declared_{abs(hash(second))}"
    folder.mkdir()
    first = "class A(Resource, path='a'):\n    k: Annotated[int, Key()]\n    x: int\n"
    where = package(folder, a=first, b=second)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DeclarationError, match=message):
        discover(folder.name, where)


def test_a_new_file_is_all_that_a_resource_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "declared_alone"
    folder.mkdir()
    where = package(folder, rivers="class River(Resource, path='rivers'):\n    name: str\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(discover("declared_alone", where)) == ["rivers"]


def test_a_json_field_has_the_shape_of_its_annotation() -> None:
    columns = {column.name: column for column in Shapes.spec_.columns}
    assert {
        name: (columns[name].shape, columns[name].items) for name in columns if name != "id"
    } == {
        "plain": (None, None),
        "words": ("list", Kind.TEXT),
        "numbers": ("list", Kind.INTEGER),
        "moods": ("list", Kind.TEXT),
        "colors": ("list", Kind.TEXT),
        "days": ("list", Kind.DATE),
        "anything": ("list", Kind.JSON),
        "unions": ("list", Kind.JSON),
        "nested": ("list", Kind.JSON),
        "members": ("dict", None),
        "maybe": ("list", Kind.TEXT),
    }


def test_the_samples_are_four_resources_with_every_kind_of_key() -> None:
    declared = resources.load()
    assert list(declared) == ["announcements", "cities", "countries", "pictures"]
    assert declared["announcements"].key_is_made
    assert declared["countries"].key.name == "code"
    assert [field.name for field in declared["pictures"].attachments] == ["image"]
    assert declared["cities"].key.kind is Kind.INTEGER
    column = declared["cities"].column("country_code")
    assert column is not None
    assert column.references == References("countries", name="country")


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("status", "Wrong: the scope_group 'status' is reserved"),
        ("commands", "Wrong: the scope_group 'commands' is reserved"),
        ("Two Words", "Wrong: scope_group='Two Words' must be a lower-case name"),
        ("a.b", "Wrong: scope_group='a.b' must be a lower-case name"),
        ("a" * 49, "must be a lower-case name"),
        (5, "Wrong: scope_group=5 must be a lower-case name"),
    ],
)
def test_a_name_that_no_scope_can_have_is_refused(group: Any, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):

        class Wrong(Resource, path="wrong", scope_group=group):
            """A resource."""

            name: str


def test_resources_share_the_scopes_of_their_group() -> None:
    class Inlet(Resource, path="inlets", scope_group="waters"):
        """A resource of a group."""

        name: str

    class Spring(Resource, path="springs"):
        """A resource of its own."""

        name: str

    assert (Inlet.spec_.scope_group, Spring.spec_.scope_group) == ("waters", "springs")
    served = routes({spec.path: spec for spec in (Inlet.spec_, Spring.spec_)})
    groups = {route.resource: route.scope_group for route in served}
    assert groups == {"": "", "inlets": "waters", "springs": "springs"}
