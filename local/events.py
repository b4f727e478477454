"""What the stack tells while it starts, runs and stops; how to show it is others' business."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Begun:
    """A step has begun."""

    step: str


@dataclass(frozen=True, slots=True)
class Done:
    """A step is done."""

    step: str
    seconds: float
    #: What was unusual about it, if anything.
    note: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A server has ended, as it should."""

    name: str
    seconds: float
    #: It was not given, or did not use, the time for an orderly end.
    forced: bool


@dataclass(frozen=True, slots=True)
class Remark:
    """Something worth telling that is no step."""

    text: str


Event = Begun | Done | Stopped | Remark
#: Gets every event; is called from several threads.
Listener = Callable[[Event], None]


def ignore(_: Event) -> None:
    """For those who want no events."""


class Notes:
    """Collects what is unusual about a step while it runs."""

    def __init__(self) -> None:
        self._notes: list[str] = []

    def add(self, note: str) -> None:
        """One more thing, in a few words."""
        self._notes.append(note)

    def __str__(self) -> str:
        return ", ".join(self._notes)


@contextmanager
def step(name: str, listener: Listener) -> Iterator[Notes]:
    """Tells the listener of the beginning and the good end of what is done in the block."""
    begun = time.monotonic()
    notes = Notes()
    listener(Begun(name))
    yield notes
    listener(Done(name, time.monotonic() - begun, str(notes)))
