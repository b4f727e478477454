"""Find the files to import that lack a report."""

from __future__ import annotations

import datetime as dt
from typing import Any

from forebay.aws.archive import IMPORTS_PREFIX
from forebay.aws.queue import Queue
from forebay.sweep import ImportSurvey, dead_objects, enqueue, survey_imports
from ops.archive.store import bucket_name
from ops.context import ARCHIVE, IMPORT_DEAD_LETTERS, IMPORT_QUEUE, Context

#: The number of files to name.
_MOST = 20


class MissedImports:
    """The files below `imports/`, listed once; none if the imports' queue is not configured."""

    def __init__(self, context: Context, *, since: dt.datetime | None, grace: dt.timedelta) -> None:
        """List the files.

        Args:
            context: names the archive and the queues.
            since: files that were stored earlier are ignored; None includes all files.
            grace: younger files are ignored.
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
        """The files whose event the import may never have received."""
        return [file.key for file in self._survey.missed]

    @property
    def dead(self) -> int:
        """The number of files in the dead-letter queue."""
        return self._survey.dead

    def enqueue(self) -> None:
        """Enqueue the missed files; this is harmless for a file that has got a report since."""
        if self._queue is not None:
            enqueue(self._queue, self._bucket, self.keys)

    def to_json(self) -> dict[str, Any] | None:
        """Return the result for the operator; None if the queue is not configured."""
        if self._queue is None:
            return None
        return {**self._survey.as_counts, "files": self.keys[:_MOST]}
