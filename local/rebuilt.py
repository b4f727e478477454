"""Rebuild a new database from an existing archive, before any other writes to the database.

The queue alone would bring back the rows and the rejections, but not operators' decisions about
rejections, nor the times of rejections. So this module runs `forebay rebuild`, as a separate
program: the stack does not import the operators' tools.
"""

import sys
from enum import Enum

from forebay.archive.layout import COMMANDS_PREFIX
from forebay.db.connect import connect
from local import emulator
from local.aws import Emulated
from local.child import Spec
from local.deployment import Deployed
from local.errors import ToolFailedError
from local.settings import LocalSettings
from local.supervisor import Supervisor

_STATEMENT_TIMEOUT_MS = 60_000


class Rebuilt(Enum):
    """The result of rebuilding a new database."""

    #: Rebuilt from the archive.
    WHOLLY = "the database is new: its tables were rebuilt from the archive"
    #: Filled with the operators' decisions only; the queue brings the rest.
    DECISIONS = (
        "the database is new, and the archive has commands that can't apply and were never "
        "rejected: objects are applied one by one"
    )


def is_needed(emulated: Emulated, deployed: Deployed, database_url: str) -> bool:
    """Return whether the database has no applied objects, but the archive has commands."""
    with connect(
        database_url,
        application_name="forebay-local",
        statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
        read_only=True,
    ) as connection:
        if connection.execute("SELECT FROM forebay.ledger LIMIT 1").rowcount:
            return False
    archive = emulated.archive(deployed.archive_bucket)
    with emulated.translated():
        return next(archive.list(COMMANDS_PREFIX), None) is not None


def rebuild(
    supervisor: Supervisor, settings: LocalSettings, deployed: Deployed, database_url: str
) -> Rebuilt:
    """Rebuild the tables, or at least take over the operators' decisions.

    Raises:
        ToolFailedError: not even the decisions could be taken over.
    """
    tool = _Tool(supervisor, settings, deployed, database_url)
    try:
        tool.run("rebuild", "--yes")
    except ToolFailedError:
        # A rebuild refuses if the live run still has decisions to make: leave those to the queue.
        tool.run("rejections", "restore")
        return Rebuilt.DECISIONS
    return Rebuilt.WHOLLY


class _Tool:
    """The operators' command line, for the running stack."""

    def __init__(
        self,
        supervisor: Supervisor,
        settings: LocalSettings,
        deployed: Deployed,
        database_url: str,
    ) -> None:
        self._supervisor = supervisor
        self._settings = settings
        self._env = {
            **emulator.build_client_environment(settings),
            "FOREBAY_DATABASE_URL": database_url,
            "FOREBAY_ARCHIVE_BUCKET": deployed.archive_bucket,
        }

    def run(self, *arguments: str) -> None:
        settings = self._settings
        self._supervisor.run(
            Spec(
                name=f"forebay {arguments[0]}",
                command=[sys.executable, "-m", "ops", *arguments],
                log=settings.logs / f"{arguments[0]}.log",
                rank=0,
                env=self._env,
                cwd=settings.root,
            )
        )
