"""The declaration of a retired resource."""

from __future__ import annotations

import sys
from pathlib import Path
from uuid import uuid4

import pytest

from forebay.errors import DeclarationError
from forebay.resource import Resources, compiled, discover

CITY = """
from typing import Annotated
from forebay.resource import Key, References, Resource, Retired

class City(Resource, path="cities"):
    number: Annotated[int, Key()]
    size: Annotated[int, References("{target}")] = 1
"""


def declared(folder: Path, **modules: str) -> Resources:
    name = f"declared_{uuid4().hex}"
    package = folder / name
    package.mkdir()
    (package / "__init__.py").touch()
    for module, text in modules.items():
        (package / f"{module}.py").write_text(text)
    sys.path.insert(0, str(folder))
    try:
        return discover(name, [str(package)])
    finally:
        sys.path.remove(str(folder))


def test_a_retired_resource_is_none_of_the_declared_ones(tmp_path: Path) -> None:
    specs = declared(
        tmp_path,
        cities=CITY.format(target="cities"),
        lakes="from forebay.resource import Retired\nlakes = Retired('lakes')\n",
    )
    assert list(specs) == ["cities"]
    assert specs.retired == {"lakes"}
    loaded = compiled.load(compiled.dump(specs))
    assert loaded is not None
    assert loaded.retired == {"lakes"}


@pytest.mark.parametrize(
    ("retired", "target", "message"),
    [
        ("'cities'", "cities", "City: 'cities' is declared and retired"),
        ("'lakes'", "lakes", "City.size: refers to 'lakes', which is retired"),
        ("'Lakes'", "cities", "lakes: Retired('Lakes') must name a resource's path"),
        ("7", "cities", "lakes: Retired(7) must name a resource's path"),
    ],
)
def test_invalid_retirements_are_refused(
    tmp_path: Path, retired: str, target: str, message: str
) -> None:
    lakes = f"from forebay.resource import Retired\nlakes = Retired({retired})\n"
    with pytest.raises(DeclarationError) as refused:
        declared(tmp_path, cities=CITY.format(target=target), lakes=lakes)
    assert message in str(refused.value)
