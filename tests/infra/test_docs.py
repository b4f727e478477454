"""What the pages say of names and counts on AWS is what the templates have."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, get_args

import pytest

import resources
from forebay.resource import Key, Resource
from forebay.resource.spec import ResourceSpec
from forebay.routes import routes
from infra.settings import FunctionName, Settings
from tests.fixtures.pages import pages, text_of
from tests.infra.templates import Synthesised
from tests.infra.variants import api_template

#: The stacks' names, and what begins as a name does and ends in one of these.
_STACK = re.compile(r"forebay-dev-(?:data|service|database|identity|edge|operations)$")


def names() -> set[str]:
    """Names of `prod` in the pages, as `dev` has them."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages())
    matches = re.findall(r"(?:/aws/[a-z]+/)?forebay-(?:prod|dev)(?:-[a-z-]*[a-z])?", text)
    return {name.replace("forebay-prod", "forebay-dev") for name in matches}


def test_every_queue_log_and_function_that_a_page_names_is_in_a_template(
    recording: Synthesised, prod: Synthesised
) -> None:
    # Only `prod` has canaries.
    text = json.dumps([recording.data, recording.service])
    text += json.dumps(prod.service).replace("forebay-prod", "forebay-dev")
    lost = {
        name
        for name in names()
        # The rest of an archive's name is the account and the region.
        if f'"{name}' not in text and not _STACK.fullmatch(name)
    }
    assert lost == set()


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_page_knows_how_much_concurrency_is_reserved(name: str) -> None:
    functions = Settings.load(name, {}).functions
    reserved = sum(functions.of(one).reserved_concurrency or 0 for one in get_args(FunctionName))
    match = re.search(rf"functions reserve [^|]*?(\d+) in `{name}`", text_of("infra/README.md"))
    assert match is not None
    assert int(match[1]) == reserved


def test_a_resource_is_as_many_resources_of_cloudformation_as_the_pages_say(
    flags: Mapping[str, Any], prod: Synthesised
) -> None:
    """Of which a stack may have 500 (AWS: "CloudFormation quotas")."""
    one, two = (
        len(api_template({}, flags, served=routes(declared(count))).to_json()["Resources"])
        for count in (1, 2)
    )
    for page in ("docs/resources.md", "infra/README.md"):
        match = re.search(
            r"(\d+)\sCloudFormation\sresources;\sa\s+stack\sholds\s500", text_of(page)
        )
        fit = re.search(r"enough for about (\d+)", text_of(page))
        assert match is not None
        assert fit is not None
        assert int(match[1]) == two - one
        other = len(prod.service["Resources"]) - len(resources.load()) * (two - one)
        assert other + int(fit[1]) * (two - one) <= 500


def declared(count: int) -> Mapping[str, ResourceSpec]:
    """So many resources that refer to nothing."""
    return {resource.spec_.path: resource.spec_ for resource in (Lake, Sea)[:count]}


class Lake(Resource, path="lakes"):
    """A resource."""

    number: Annotated[int, Key()]
    name: str


class Sea(Resource, path="seas"):
    """Another one."""

    number: Annotated[int, Key()]
    name: str
