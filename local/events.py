"""Events of the stack's start, run and stop; listeners decide how to show them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepBegun:
    """A step has begun."""

    step: str


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step is done."""

    step: str
    seconds: float
    #: Anything unusual about the step, or empty.
    note: str = ""


@dataclass(frozen=True, slots=True)
class ServerStopped:
    """A server has ended on request."""

    name: str
    seconds: float
    #: It was killed: it had no time for an orderly end, or did not use it.
    forced: bool


@dataclass(frozen=True, slots=True)
class Remark:
    """A message for the user that does not belong to a step."""

    text: str


Event = StepBegun | StepDone | ServerStopped | Remark
#: Receives every event; called from several threads.
Listener = Callable[[Event], None]


def ignore(_: Event) -> None:
    """Discard an event."""


@contextmanager
def report_step(name: str, listener: Listener) -> Iterator[list[str]]:
    """Report the beginning and the successful end of the block, which may add notes to the list."""
    start = time.monotonic()
    notes: list[str] = []
    listener(StepBegun(name))
    yield notes
    listener(StepDone(name, time.monotonic() - start, ", ".join(notes)))
