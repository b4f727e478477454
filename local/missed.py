"""Enqueue events for archive objects that were written but not applied when the stack stopped.

The emulator's queues end with the emulator, and so do their events for objects not applied yet.
Comparing the archive with the ledger finds these objects: it is the sweep of `forebay.sweep`,
without a grace time, because no event can be on its way yet. A new database has been filled from
the archive before (`local.rebuilt`).
"""

import datetime as dt

from forebay.archive.layout import COMMANDS_PREFIX, IMPORTS_PREFIX
from forebay.db.connect import connect
from forebay.sweep import Sweep, enqueue, survey_imports
from local.aws import Emulated
from local.deployment import Deployed

_STATEMENT_TIMEOUT_MS = 60_000


def enqueue_missed(emulated: Emulated, deployed: Deployed, database_url: str) -> int:
    """Enqueue an event for every object that the ledger lacks or that is not completely applied.

    The import queue gets an event for every file without a report.

    An object that is being applied at the moment may get a second event, which has no effect.

    Returns:
        The number of events.
    """
    archive = emulated.archive(deployed.archive_bucket)
    queue = emulated.queue(deployed.queue_url)
    count = 0
    with (
        emulated.translated(),
        connect(
            database_url,
            application_name="forebay-local",
            statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
            read_only=True,
        ) as connection,
    ):
        sweep = Sweep(connection, now=dt.datetime.now(dt.UTC), grace=None)
        for keys in sweep.missed(archive.list(COMMANDS_PREFIX)):
            enqueue(queue, deployed.archive_bucket, keys)
            count += len(keys)
    files = survey_imports(archive.list(IMPORTS_PREFIX)).missed
    enqueue(
        emulated.queue(deployed.import_queue_url),
        deployed.archive_bucket,
        [file.key for file in files],
    )
    return count + len(files)
