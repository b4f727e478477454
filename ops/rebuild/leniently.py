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
from ops.rejections import audit
from ops.replay.replay import Pace, Tally, begin, replay


def rebuild_leniently(context: Context, console: Console, *, cut: str, workers: int) -> Tally:
    """Takes over what was decided about rejections, then replays everything up to the cut.

    The replay takes over the archive's rejections. Only a database that owns the archive adds to
    them; any other keeps the new ones for itself.
    """
    time = accepted(cut)
    with context.connect(purpose="rebuild") as connection, connection.transaction():
        # It may be a database that was emptied by hand, and had followed the decision log.
        connection.execute("DELETE FROM forebay.decision_log")
        audit.restore(connection, context.archive, until=time)
    until = time + dt.timedelta(milliseconds=1) if time else None
    selection = Selection(until=until)
    run = begin(context, selection)
    return replay(context, console, run, selection, Pace(workers=workers), rejects_all=True)
