"""Explain why an archive object is not applied, with the next step."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias

from forebay.archive.lines import InvalidLine, read_chunks
from forebay.db.connect import Connection
from forebay.errors import PermanentError
from forebay.resource.spec import ResourceSpec
from forebay.sweep import Reason, Stored
from ops.archive.store import ObjectStore

#: The number of objects to explain: each may have to be read.
MOST = 20

Why: TypeAlias = Literal["young", "dead_letter", "held", "unreadable", "interrupted", "missed"]


@dataclass(frozen=True, slots=True)
class Unapplied:
    """An object that is not applied."""

    object: str
    stored_at: dt.datetime
    why: Why
    #: A sentence with the next step.
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Return the object for the operator."""
        return {
            "object": self.object,
            "stored_at": self.stored_at,
            "why": self.why,
            "detail": self.detail,
        }


class Explainer:
    """Examines objects that are not applied."""

    def __init__(
        self,
        connection: Connection,
        store: ObjectStore,
        resources: Mapping[str, ResourceSpec],
        *,
        now: dt.datetime,
    ) -> None:
        """Create an explainer.

        Args:
            connection: a connection to a database with the ledger.
            store: the archive.
            resources: the declarations of this release.
            now: the current time.
        """
        self._connection = connection
        self._store = store
        self._resources = resources
        self._now = now

    def explain(self, unapplied: Iterable[tuple[Stored, Reason]]) -> list[Unapplied]:
        """Return the first `MOST` of the objects, each with its reason."""
        return [
            Unapplied(
                archive_object.key,
                archive_object.modified,
                *self._find_reason(archive_object, reason),
            )
            for archive_object, reason in islice(unapplied, MOST)
        ]

    def _find_reason(self, archive_object: Stored, reason: Reason) -> tuple[Why, str]:
        if reason == "dead":
            return "dead_letter", "it failed too often; `forebay dlq list` shows its message"
        try:
            version = next(self._find_held_versions(archive_object.key), None)
        except PermanentError as exc:
            return "unreadable", str(exc)
        if version is not None:
            return "held", f"it holds {version}: deploy the release that knows it"
        if reason == "young":
            age = (self._now - archive_object.modified).total_seconds()
            return "young", f"it was stored {age:,.0f} s ago, and its event may be on its way"
        lines = self._count_applied_lines(archive_object.key)
        if lines is not None:
            return "interrupted", f"{lines:,} of its lines are applied; its message brings the rest"
        return "missed", "its event was lost, or its message waits in the queue"

    def _find_held_versions(self, key: str) -> Iterator[str]:
        """Yield a description of each command whose schema version this release does not know."""
        for chunk in read_chunks(self._store.read(key)):
            for entry in chunk:
                spec = (
                    None if isinstance(entry, InvalidLine) else self._resources.get(entry.resource)
                )
                if spec is None or isinstance(entry, InvalidLine):
                    continue
                if entry.schema > spec.schema_version:
                    yield f"commands of {entry.resource}'s schema version {entry.schema}"

    def _count_applied_lines(self, key: str) -> int | None:
        row = self._connection.execute(
            "SELECT lines FROM forebay.ledger WHERE object = %s", [key]
        ).fetchone()
        return None if row is None else int(row[0])
