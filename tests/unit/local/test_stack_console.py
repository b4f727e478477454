"""The output of a start on the terminal."""

import io

import pytest
from rich.console import Console

from local.console import Display
from local.events import Event, Remark, ServerStopped, StepBegun, StepDone, report_step


def shown(*events: Event) -> list[str]:
    output = io.StringIO()
    display = Display(Console(file=output, soft_wrap=True, highlight=False))
    for event in events:
        display(event)
    return output.getvalue().splitlines()


def test_a_finished_step_is_one_line_with_its_seconds_and_what_was_unusual() -> None:
    lines = shown(
        StepBegun("emulator"),
        StepBegun("primary"),
        StepDone("primary", 1.24, "new"),
        StepDone("emulator", 0.5),
    )

    assert [" ".join(line.split()) for line in lines] == ["✓ primary 1.2 s new", "✓ emulator 0.5 s"]


def test_a_killed_server_is_told_from_one_that_ended_in_order() -> None:
    lines = shown(
        ServerStopped("gateway", 0.1, forced=False), ServerStopped("emulator", 10, forced=True)
    )

    assert "killed" not in lines[0]
    assert "killed" in lines[1]


def test_text_in_brackets_is_shown_as_it_is() -> None:
    assert shown(Remark("[bold]no[/bold]")) == ["· [bold]no[/bold]"]


def test_a_step_that_fails_is_not_told_as_done() -> None:
    events: list[Event] = []

    with pytest.raises(RuntimeError), report_step("cdk deploy", events.append):
        raise RuntimeError

    assert events == [StepBegun("cdk deploy")]
