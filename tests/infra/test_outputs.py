"""The stacks output every setting that the operators' command line reads."""

from __future__ import annotations

from ops.context import _OUTPUTS, ATTACHMENTS, READ_CACHE, UPLOAD_DEAD_LETTERS, UPLOAD_QUEUE
from tests.infra.templates import Synthesised


def test_every_setting_of_the_command_line_is_an_output(either: Synthesised) -> None:
    stacks = (either.data, either.service, either.database)
    names = {name for stack in stacks for name in stack.get("Outputs", {})}
    # Not every environment has these; test_read_cache.py and test_attachments.py do.
    optional = (READ_CACHE, ATTACHMENTS, UPLOAD_QUEUE, UPLOAD_DEAD_LETTERS)
    assert {_OUTPUTS[setting] for setting in _OUTPUTS.keys() - optional} <= names
