"""Entity tags of items: equal only for equal bytes, and parsed for the version in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.conditional import build_item_tag, is_known, parse_version
from tests.fixtures.commands import command_id

JSON = "application/json"


@given(texts=st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_two_contents_of_one_version_have_two_tags(texts: list[str]) -> None:
    tags = {build_item_tag(command_id(1), JSON, text) for text in texts}
    assert len(tags) == 2


def test_a_tag_depends_only_on_version_type_and_text() -> None:
    tag = build_item_tag(command_id(1), JSON, "{}")
    assert build_item_tag(command_id(1), JSON, "{}") == tag
    others = {
        build_item_tag(command_id(2), JSON, "{}"),
        build_item_tag(command_id(1), "text/csv", "{}"),
        build_item_tag(command_id(1), JSON, "{ }"),
    }
    assert len({tag, *others}) == 4


@pytest.mark.parametrize(
    "form",
    [
        *("{}", '"{}"', 'W/"{}"', ' "{}" ', '"{}-0123456789abcdef"'),
        *("/v1/cities/5/commands/{}", "https://api.example.com/v1/cities/a%2Cb/commands/{}"),
    ],
)
def test_the_version_is_read_from_an_id_a_tag_and_the_path_of_a_status(form: str) -> None:
    assert parse_version(form.format(command_id(1))) == command_id(1)
    assert parse_version(build_item_tag(command_id(1), JSON, "{}")) == command_id(1)


@pytest.mark.parametrize(
    "form",
    [
        *("", "*", "{", '"{}', '{}"', "W/{}", '"{}-0"', '"{}", "{}"', "{}\n{}", '"{}-{}"', "w/{}"),
        *("/v1/cities/5/commands/{}?x=1", "/v1/cities/5/commands/{}/", "a, /commands/{}"),
        "/v1/cities/5/{}",
    ],
)
def test_a_tag_without_a_single_version_has_no_version(form: str) -> None:
    assert parse_version(form.replace("{}", command_id(1))) is None


@pytest.mark.parametrize(
    ("if_none_match", "known"),
    [
        ("{}", True),
        ("W/{}", True),
        ('"x", {}', True),
        ("*", True),
        (None, False),
        ('"x"', False),
        (f'"{command_id(1)}"', False),
    ],
)
def test_a_client_has_an_item_if_it_shows_its_whole_tag(
    if_none_match: str | None, *, known: bool
) -> None:
    tag = build_item_tag(command_id(1), JSON, "{}")
    assert is_known(tag, if_none_match and if_none_match.replace("{}", tag)) is known
