"""Recover at a start what the last stop lost: a deleted database, and the emulator's queues."""

import datetime as dt
import sys
from contextlib import AbstractContextManager

from forebay.archive.layout import COMMANDS_PREFIX, IMPORTS_PREFIX
from forebay.attachments import UPLOADS_PREFIX
from forebay.db.connect import Connection, connect
from forebay.sweep import Sweep, enqueue, survey_files
from local import emulator
from local.aws import Emulated
from local.deployment import Deployed
from local.errors import ToolFailedError
from local.processes import Spec
from local.settings import LocalSettings
from local.supervisor import Supervisor

_STATEMENT_TIMEOUT_MS = 60_000


def needs_rebuild(emulated: Emulated, deployed: Deployed, database_url: str) -> bool:
    """Return whether the database has no applied objects, but the archive has commands."""
    with _connect(database_url) as connection:
        if connection.execute("SELECT FROM forebay.ledger LIMIT 1").rowcount:
            return False
    archive = emulated.archive(deployed.archive_bucket)
    with emulated.translated():
        return next(archive.list(COMMANDS_PREFIX), None) is not None


def rebuild(
    supervisor: Supervisor, settings: LocalSettings, deployed: Deployed, database_url: str
) -> str:
    """Rebuild a new database from the archive, before any other writes; return the result.

    The queue alone would bring back the rows and the rejections, but not operators' decisions about
    rejections, nor the times of rejections. So this runs `forebay rebuild`, as a separate program:
    the stack does not import the operators' tools.

    Raises:
        ToolFailedError: not even the decisions could be restored.
    """
    env = {
        **emulator.build_client_environment(settings),
        "FOREBAY_DATABASE_URL": database_url,
        "FOREBAY_ARCHIVE_BUCKET": deployed.archive_bucket,
    }

    def run(*arguments: str) -> None:
        supervisor.run(
            Spec(
                name=f"forebay {arguments[0]}",
                command=[sys.executable, "-m", "ops", *arguments],
                log=settings.logs / f"{arguments[0]}.log",
                env=env,
                cwd=settings.root,
            )
        )

    try:
        run("rebuild", "--yes")
    except ToolFailedError:
        # A rebuild refuses if the live run still has decisions to make: leave those to the queue.
        run("rejections", "restore")
        return (
            "the database is new, and the archive has commands that can't apply and were never "
            "rejected: objects are applied one by one"
        )
    return "the database is new: its tables were rebuilt from the archive"


def enqueue_missed(emulated: Emulated, deployed: Deployed, database_url: str) -> int:
    """Enqueue an event for every object, import and upload that is not completely handled.

    The emulator's queues end with the emulator, and so do their events. This is the sweep of
    `forebay.sweep`, without a grace time, because no event can be on its way yet. An object that is
    being applied at the moment may get a second event, which has no effect.

    Returns:
        The number of events.
    """
    archive = emulated.archive(deployed.archive_bucket)
    queue = emulated.queue(deployed.queue_url)
    count = 0
    with emulated.translated(), _connect(database_url) as connection:
        sweep = Sweep(connection, now=dt.datetime.now(dt.UTC), grace=None)
        for keys in sweep.missed(archive.list(COMMANDS_PREFIX)):
            enqueue(queue, deployed.archive_bucket, keys)
            count += len(keys)
        for bucket, prefix, url in (
            (deployed.archive_bucket, IMPORTS_PREFIX, deployed.import_queue_url),
            (deployed.attachments_bucket, UPLOADS_PREFIX, deployed.upload_queue_url),
        ):
            if bucket is None or url is None:
                continue  # the environment has no attachments
            files = survey_files(emulated.archive(bucket).list(prefix)).missed
            enqueue(emulated.queue(url), bucket, [file.key for file in files])
            count += len(files)
    return count


def _connect(database_url: str) -> AbstractContextManager[Connection]:
    return connect(
        database_url,
        application_name="forebay-local",
        statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
        read_only=True,
    )
