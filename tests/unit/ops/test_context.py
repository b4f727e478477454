"""The sources of a setting's value, and the option that a message names for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from ops.cli import app
from ops.context import _OUTPUTS, ARCHIVE, DATABASE, Context


def list_options(command: Any) -> Iterator[str]:
    """Yield the options of a command and of its subcommands."""
    for parameter in command.params:
        yield from parameter.opts
    for subcommand in getattr(command, "commands", {}).values():
        yield from list_options(subcommand)


def test_blanks_around_a_value_do_not_count() -> None:
    """A file of variables that an editor has saved with carriage returns leaves one behind."""
    variables = {"FOREBAY_ARCHIVE_BUCKET": "bucket\r", "FOREBAY_DATABASE_URL": " \r"}
    context = Context({DATABASE: "postgresql://host/db \n"}, environment=variables)

    assert context.get(ARCHIVE) == "bucket"
    assert context.get(DATABASE) == "postgresql://host/db"
    assert Context({}, environment=variables).find(DATABASE) is None


def test_every_option_that_a_message_names_exists() -> None:
    named = {setting.option for setting in _OUTPUTS if setting.option is not None}

    assert named <= set(list_options(typer.main.get_command(app)))
