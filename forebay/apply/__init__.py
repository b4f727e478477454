"""Apply: turns chunks of commands into table changes.

`engine` runs over an object's chunks: a transaction for each chunk, and its row of the ledger
(`results`). Data walks one way through a chunk: `prepare` reads the lines and folds commands to one
winner per key. `chunk` has the winners written by `rows`, as whole rows in groups, and the commands
of keys with patches or decided commands by `edits`. Commands that fail become decisions
(`forebay.decisions`).
"""

from forebay.apply.engine import Watch, apply, read_ahead, rehearse
from forebay.apply.prepare import Chunk
from forebay.apply.results import Counts, Outcome, Source
from forebay.apply.rows.winners import Habits

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
