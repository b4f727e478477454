"""A cold start without the garbage collector.

Imported first by a function's entry point. What imports make stays, so there is nothing to be
collected, and looking for it again and again, while modules pile up, takes a tenth of a start.
"""

from __future__ import annotations

import gc

gc.disable()


def finish() -> None:
    """Begin to collect, now that all is made, and never look at what was made until here."""
    gc.freeze()
    gc.enable()
