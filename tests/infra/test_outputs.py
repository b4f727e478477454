"""The stacks output every setting that the operators' command line reads."""

from __future__ import annotations

from ops.context import _OUTPUTS, ATTACHMENTS, READ_CACHE
from tests.infra.templates import Synthesised


def test_every_setting_of_the_command_line_is_an_output(either: Synthesised) -> None:
    stacks = (either.data, either.service, either.database)
    names = {name for stack in stacks for name in stack.get("Outputs", {})}
    # Not every environment has these; test_read_cache.py and test_attachments.py do.
    optional = {_OUTPUTS[READ_CACHE], _OUTPUTS[ATTACHMENTS]}
    assert set(_OUTPUTS.values()) - optional <= names
