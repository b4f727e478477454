"""Apply: turns chunks of commands into table changes."""

from forebay.apply.engine import PreparedChunks, apply, read_ahead, rehearse
from forebay.apply.habits import Habits
from forebay.apply.outcome import Counts, Outcome, Source

__all__ = [
    "Counts",
    "Habits",
    "Outcome",
    "PreparedChunks",
    "Source",
    "apply",
    "read_ahead",
    "rehearse",
]
