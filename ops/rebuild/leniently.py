"""Rebuild where new rejections are allowed: like the live run, object by object.

Which of two commands that exclude each other is rejected then depends on the order of objects, as
it did in the live run; so the strict rebuild is the way, and this one is for archives that have
lost their rejections, or for resources whose rules have changed.
"""

from __future__ import annotations

import datetime as dt

from forebay.replay.selection import Selection
from ops.console import Console
from ops.context import Context
from ops.cut import accepted
from ops.folding.scan import read_rejections
from ops.rebuild.load import Loader
from ops.rejections import audit
from ops.replay.replay import Pace, Tally, begin, replay


def rebuild_leniently(context: Context, console: Console, *, cut: str, workers: int) -> Tally:
    """Takes over the archive's rejections and decisions, then replays everything up to the cut."""
    time = accepted(cut)
    with context.connect(purpose="rebuild") as connection, connection.transaction():
        Loader(connection, context.resources).reject(read_rejections(context.archive, cut))
        audit.restore(connection, context.archive, until=time)
    until = time + dt.timedelta(milliseconds=1) if time else None
    selection = Selection(until=until)
    return replay(context, console, begin(context, selection), selection, Pace(workers=workers))
