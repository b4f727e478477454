"""A rebuild that may reject commands: it applies object by object, like the live run.

As in the live run, the order of objects determines which of two conflicting commands is rejected.
So this rebuild is only for archives that have lost their rejections, and for resources whose rules
have changed; otherwise use the strict rebuild.
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
    """Restore the operators' decisions, then replay all commands up to the cut.

    The replay takes the rejections over from the archive. A database that owns the archive adds new
    rejections to it; any other database keeps them in its own table.
    """
    time = accepted(cut)
    with context.connect(purpose="rebuild") as connection, connection.transaction():
        # A database that was emptied by hand may have followed the decision log before.
        connection.execute("DELETE FROM forebay.decision_log")
        audit.restore(connection, context.archive, until=time)
    until = time + dt.timedelta(milliseconds=1) if time else None
    selection = Selection(until=until)
    run = begin(context, selection)
    return replay(context, console, run, selection, Pace(workers=workers), rejects_all=True)
