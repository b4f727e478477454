"""Finds files to import that nobody has reported about."""

from __future__ import annotations

import datetime as dt
from typing import Any

from forebay.aws.archive import IMPORTS_PREFIX
from forebay.aws.queue import Queue
from forebay.sweep import ImportSurvey, dead_objects, enqueue, survey_imports
from ops.archive.store import bucket_name
from ops.context import ARCHIVE, IMPORT_DEAD_LETTERS, IMPORT_QUEUE, Context

#: Files that are named.
_MOST = 20


class MissedImports:
    """The files below `imports/` as they are when this is made; none without the imports' queue."""

    def __init__(self, context: Context, *, since: dt.datetime | None, grace: dt.timedelta) -> None:
        """Look at the files.

        Args:
            context: names archive and queues.
            since: files that were stored earlier are not looked at; None looks at all.
            grace: younger files are left alone.
        """
        self._bucket = bucket_name(context.get(ARCHIVE))
        self._queue: Queue | None = None
        self._survey = ImportSurvey()
        url = context.find(IMPORT_QUEUE)
        if url is None:
            return
        self._queue = Queue(context.sqs, url)
        self._survey = survey_imports(
            context.archive.list(IMPORTS_PREFIX),
            since=since,
            born_before=dt.datetime.now(dt.UTC) - grace,
            dead=dead_objects(
                Queue(context.sqs, context.get(IMPORT_DEAD_LETTERS)), self._bucket, IMPORTS_PREFIX
            ),
        )

    @property
    def keys(self) -> list[str]:
        """The files that the import may never have been told of."""
        return [file.key for file in self._survey.missed]

    @property
    def dead(self) -> int:
        """How many files are dead letters."""
        return self._survey.dead

    def enqueue(self) -> None:
        """Tells the import of the missed files; one that has a report by now changes nothing."""
        if self._queue is not None:
            enqueue(self._queue, self._bucket, self.keys)

    def to_json(self) -> dict[str, Any] | None:
        """For the operator; None where no queue is known."""
        if self._queue is None:
            return None
        return {**self._survey.as_counts, "files": self.keys[:_MOST]}
