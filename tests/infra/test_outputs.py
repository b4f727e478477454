"""The stacks output every setting that the operators' command line reads."""

from __future__ import annotations

from ops.context import _OUTPUTS
from tests.infra.templates import Synthesised


def test_every_setting_of_the_command_line_is_an_output(either: Synthesised) -> None:
    stacks = (either.data, either.service, either.database)
    names = {name for stack in stacks for name in stack.get("Outputs", {})}
    assert set(_OUTPUTS.values()) <= names
