"""Apply: turns chunks of commands into table changes; the only writer of resource tables."""

from forebay.apply.ahead import ReadAhead, one_ahead
from forebay.apply.decisions import DecisionLog, NotOwnerError, Ownership
from forebay.apply.engine import apply, read_ahead, rehearse
from forebay.apply.habits import Habits
from forebay.apply.outcome import Counts, Entry, InvalidLine, Outcome, Source, Undecided
from forebay.apply.rejections import Rejection

__all__ = [
    "Counts",
    "DecisionLog",
    "Entry",
    "Habits",
    "InvalidLine",
    "NotOwnerError",
    "Outcome",
    "Ownership",
    "ReadAhead",
    "Rejection",
    "Source",
    "Undecided",
    "apply",
    "one_ahead",
    "read_ahead",
    "rehearse",
]
