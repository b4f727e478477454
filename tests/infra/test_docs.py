"""What the pages say of names and counts on AWS is what the templates have."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, get_args

import pytest

from forebay.routes import routes
from infra.components.authorization import Authorization
from infra.components.definition import Definition
from infra.quotas import count_paths
from infra.settings import FunctionName, Settings
from tests.fixtures.many import declare
from tests.fixtures.pages import pages, text_of
from tests.infra.templates import Synthesised
from tests.infra.variants import POOL_ARN, settings_of

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
def test_the_page_states_the_reserved_concurrency(name: str) -> None:
    functions = Settings.load(name, {}).functions
    reserved = sum(functions.of(one).reserved_concurrency or 0 for one in get_args(FunctionName))
    match = re.search(rf"functions reserve [^|]*?(\d+) in `{name}`", text_of("infra/README.md"))
    assert match is not None
    assert int(match[1]) == reserved


def test_the_pages_know_how_many_resources_the_quotas_allow() -> None:
    """The quotas and what the generated resources need of them."""
    page = text_of("infra/README.md")
    ten, sixty = (count_paths(routes(declare(count))) for count in (10, 60))
    each = (sixty - ten) // 50
    base = ten - 10 * each
    match = re.search(
        r"five for each resource of yours, and (\d+): enough for (\d+) resources", page
    )
    assert match is not None
    assert each == 5
    assert (int(match[1]), int(match[2])) == (base, (300 - base) // each)
    size, larger = (len(json.dumps(define(count), separators=(",", ":"))) for count in (60, 200))
    match = re.search(r"some (\d+) KB for a resource with five fields", page)
    assert match is not None
    assert int(match[1]) == round((larger - size) / 140 / 1000)
    match = re.search(r"the definition of 200 has (\d\.\d) MB", text_of("docs/scale.md"))
    assert match is not None
    assert float(match[1]) == round(larger / 1e6, 1)


def define(count: int) -> Mapping[str, Any]:
    """The definition of production's API with so many resources."""
    settings = settings_of("prod", {}).api
    names = ("read", "status", "write", "about")
    return Definition(
        name="forebay-prod",
        routes=routes(declare(count, group_size=10)),
        functions={name: f"forebay-prod-{name}:live" for name in names},
        settings=settings,
        authorization=Authorization(settings, POOL_ARN),
        read_timeout_seconds=10,
    ).build()
