"""Apply: turns batches of commands into table changes; the only writer of resource tables."""

from forebay.apply.ahead import ReadAhead, one_ahead
from forebay.apply.engine import apply, read_ahead, rehearse
from forebay.apply.habits import Habits
from forebay.apply.outcome import BadLine, Counts, Entry, Outcome, Rejection, Source
from forebay.apply.rejections import restore

__all__ = [
    "BadLine",
    "Counts",
    "Entry",
    "Habits",
    "Outcome",
    "ReadAhead",
    "Rejection",
    "Source",
    "apply",
    "one_ahead",
    "read_ahead",
    "rehearse",
    "restore",
]
