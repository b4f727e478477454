"""The output of a start on the terminal."""

import io

import pytest
from rich.console import Console

from local.console import Display


class Screen(Display):
    """A display, and its output."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        self._output = io.StringIO()
        super().__init__(
            Console(file=self._output, soft_wrap=True, highlight=False, force_terminal=is_terminal)
        )

    def lines(self) -> list[str]:
        return [" ".join(line.split()) for line in self._output.getvalue().splitlines()]


def test_a_finished_step_is_one_line_with_its_seconds_and_notes() -> None:
    screen = Screen()

    with screen.step("emulator"):
        with screen.step("primary") as notes:
            notes += ["new", "copied"]
        assert screen.lines() == ["✓ primary 0.0 s new, copied"]

    assert screen.lines()[1:] == ["✓ emulator 0.0 s"]


def test_a_killed_server_is_shown_as_killed() -> None:
    screen = Screen()

    screen.report_stop("gateway", 0.1, forced=False)
    screen.report_stop("emulator", 10, forced=True)

    assert screen.lines() == ["■ gateway 0.1 s", "■ emulator 10.0 s killed"]


def test_text_in_brackets_is_shown_as_it_is() -> None:
    screen = Screen()

    screen.remark("[bold]no[/bold]")

    assert screen.lines() == ["· [bold]no[/bold]"]


def test_a_failed_step_is_not_shown_as_finished() -> None:
    screen = Screen()

    with pytest.raises(RuntimeError), screen.step("cdk deploy"):
        raise RuntimeError

    assert screen.lines() == []


def test_a_terminal_shows_the_running_steps() -> None:
    screen = Screen(is_terminal=True)

    with screen.step("emulator"), screen.step("primary"):
        pass

    assert any("emulator, primary" in line for line in screen.lines())
