"""The stacks output every setting that the operators' command line reads."""

from __future__ import annotations

from ops.context import _OUTPUTS, READ_CACHE
from tests.infra.templates import Synthesised


def test_every_setting_of_the_command_line_is_an_output(either: Synthesised) -> None:
    stacks = (either.data, either.service, either.database)
    names = {name for stack in stacks for name in stack.get("Outputs", {})}
    # Neither environment has a read cache; tests/infra/test_read_cache.py has one.
    assert set(_OUTPUTS.values()) - {_OUTPUTS[READ_CACHE]} <= names
