"""Apply: turns chunks of commands into table changes.

Data walks one way: the archive's lines (`forebay.archive`) → `prepare` decides in memory → `chunk`,
`table` and `copying` write → `results` has the ledger, and `forebay.decisions` the rejections.
"""

from forebay.apply.engine import Watch, apply, read_ahead, rehearse
from forebay.apply.prepare import Chunk
from forebay.apply.results import Counts, Outcome, Source
from forebay.apply.table import Habits

__all__ = [
    "Chunk",
    "Counts",
    "Habits",
    "Outcome",
    "Source",
    "Watch",
    "apply",
    "read_ahead",
    "rehearse",
]
