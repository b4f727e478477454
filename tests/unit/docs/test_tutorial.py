"""The pages of `PAGES` have commands and outputs only, and a mistake in them fails their test."""

import re
from pathlib import Path

import pytest

from tests.fixtures.pages import text_of
from tests.fixtures.tutorial import PAGES, Terminals, missing_text


def follow(page: str, folder: Path) -> None:
    Terminals(checkout=folder, folder=folder, port=9000).follow(page)


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_run_or_compared_with_an_output(name: str) -> None:
    page = text_of(name)
    languages = re.findall(r"^```(\w+)$", page, re.MULTILINE)
    assert set(languages) == {"sh", "text"}
    compared = re.findall(r"^```\n\n```text$", page, re.MULTILINE)
    assert len(compared) == languages.count("text")


def test_commands_see_the_variables_and_functions_of_earlier_blocks_and_the_port_of_the_stack(
    tmp_path: Path,
) -> None:
    follow(
        "```sh\nat=8080\nshow() { echo $at $PORT; }\n```\n\n"
        "```sh\nshow\n```\n\n```text\n9000 9000\n```\n",
        tmp_path,
    )


def test_a_command_that_fails_fails_the_page(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="'Write' ended with 3"):
        follow("## Write\n\n```sh\n(exit 3) | cat\n```\n", tmp_path)


def test_an_output_that_a_command_does_not_print_fails_the_page(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="'Write' did not print 'applied'"):
        follow("## Write\n\n```sh\necho pending\n```\n\n```text\napplied\n```\n", tmp_path)


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ("", None),
        ('{"id":"…",\n "status":"applied"}', None),
        ("…applied…", None),
        ('{"id":"…","status":"rejected"}', '","status":"rejected"}'),
        ("applied…id", "id"),
    ],
)
def test_outputs_are_compared_without_white_space_and_elided_parts(
    shown: str, missing: str | None
) -> None:
    assert missing_text(shown, '{"id": "0190", "status": "applied"}\n') == missing
