"""Every variable and key that the code reads is documented with its default, and no other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from infra.settings import FunctionsSettings, Settings
from lambdas.about.settings import AboutSettings
from lambdas.consumer.settings import ConsumerSettings
from lambdas.imports.settings import ImportSettings
from lambdas.read.settings import ReadSettings
from lambdas.sweep.settings import SweepSettings
from lambdas.write.settings import WriteSettings
from local.settings import ROOT, LocalSettings
from tests.fixtures.pages import codes, first_codes, rows, section, text_of

PAGE = text_of("docs/configuration.md")
OWN = re.compile(r"\bFOREBAY_[A-Z_]*[A-Z]\b")
SETTINGS: Mapping[str, Callable[[Mapping[str, str]], object]] = {
    "### write": WriteSettings.from_env,
    "### read": ReadSettings.from_env,
    "### about": AboutSettings.from_env,
    "### imports": ImportSettings.from_env,
    "### firehose_consumer": ConsumerSettings.from_env,
    "### sweep": SweepSettings.from_env,
    "## The one-machine stack": LocalSettings.from_env,
}


class Environment(dict[str, str]):
    """An environment that has every variable, and records the names that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, key: str, _default: object = None) -> str:
        self.asked.add(key)
        return "1"


def read_by(from_env: Callable[[Mapping[str, str]], object]) -> set[str]:
    environment = Environment()
    from_env(environment)
    # Lambda and AWS's SDK have variables of their own.
    return {name for name in environment.asked if OWN.fullmatch(name)}


def own_variables(text: str) -> set[str]:
    return {code for code in first_codes(text) if OWN.fullmatch(code)}


@pytest.mark.parametrize("heading", SETTINGS)
def test_each_process_has_exactly_the_documented_variables(heading: str) -> None:
    assert own_variables(section(PAGE, heading)) == read_by(SETTINGS[heading])


@pytest.mark.parametrize("heading", [name for name in SETTINGS if name.startswith("###")])
def test_a_documented_default_is_the_code_s(heading: str) -> None:
    from_env = SETTINGS[heading]
    defaults = {
        name: row.cells["Default"]
        for row in rows(section(PAGE, heading))
        for name in codes(row.cells["Variable"])
        if OWN.fullmatch(name)
    }
    required = {name: "x" for name, default in defaults.items() if default == "required"}
    for name, default in defaults.items():
        if name not in required:
            value = "" if default == "empty" else default
            assert from_env(required | {name: value}) == from_env(required), name
    for name in required:
        with pytest.raises(Exception, match=name):
            from_env({other: "x" for other in required if other != name})


def test_every_variable_of_ours_in_the_sources_is_documented_and_none_else() -> None:
    tops = ("forebay", "lambdas", "resources", "migrations", "infra", "devtools", "local", "loader")
    names = {
        name
        for top in tops
        for file in (ROOT / top).rglob("*.py")
        for name in OWN.findall(file.read_text(encoding="utf-8"))
    }
    assert names == set(OWN.findall(PAGE))


def test_every_variable_that_a_stack_sets_is_documented() -> None:
    matches = re.findall(r'"([A-Z][A-Z_]+)"', (ROOT / "infra/stacks/service.py").read_text())
    matches += re.findall(r'"(FOREBAY_\w+)"', (ROOT / "infra/components/functions.py").read_text())
    assert set(matches) - set(first_codes(PAGE)) == set()


def models(kind: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a key may hold: several for a union, none for a plain value."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    elif get_origin(kind) in {Union, UnionType}:
        for choice in get_args(kind):
            yield from models(choice)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every key of an environment's file; all functions share one placeholder name."""
    for name, field in model.model_fields.items():
        if model is FunctionsSettings:
            name = "<name>"  # noqa: PLW2901 - the placeholder that the page uses
        tables = list(models(field.annotation))
        if tables:
            for table in tables:
                yield from keys(table, f"{prefix}{name}.")
        elif prefix or name != "name":  # the name is the file's own
            yield prefix + name


def test_every_key_of_an_environment_is_documented_and_none_else() -> None:
    assert set(first_codes(section(PAGE, "## Environments"))) == set(keys(Settings))
