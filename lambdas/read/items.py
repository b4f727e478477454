"""`GET /{resource}/{key}`: one item, with an ETag that names its version and its bytes."""

from __future__ import annotations

import time
from collections.abc import Callable

from forebay.command import KeyValue
from forebay.conditional import is_known, item_tag, version_of
from forebay.errors import NotYetVisibleError
from forebay.http import Response
from forebay.ids import accepted_ms, original_version
from forebay.keys import read_key
from forebay.problem import Problem, ProblemError
from forebay.query.representation import Media, parse_accept
from forebay.resource.spec import ResourceSpec
from forebay.routes import RequestView
from lambdas.read.database import ReadDatabase, Rows
from lambdas.read.sql.rows import item_query
from lambdas.read.sql.statement import Query
from lambdas.read.visibility import Visibility, read_command_id

# Caches may store the answer but must revalidate it, which the ETag makes cheap (RFC 9111
# §5.2.2.4).
_CACHE_CONTROL = "no-cache"
_VARY = "Accept, Read-After"


class ItemReader:
    """Reads items."""

    def __init__(
        self,
        database: ReadDatabase,
        visibility: Visibility,
        *,
        read_after_wait_seconds: float,
        primary_window_seconds: float,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Create the reader.

        Args:
            database: the replicas and the primary.
            visibility: looks up commands there.
            read_after_wait_seconds: how long `Read-After` waits for a replica.
            primary_window_seconds: the age up to which `Read-After` waits for a command, and looks
                it up on the primary if the replica lacks it.
            now_ms: the clock of command ids.
        """
        self._database = database
        self._visibility = visibility
        self._wait_seconds = read_after_wait_seconds
        self._primary_window_ms = round(primary_window_seconds * 1000)
        #: The statements by the resource's path; only the key's value varies.
        self._statements: dict[str, Query] = {}
        self._now_ms = now_ms

    def read(self, spec: ResourceSpec, view: RequestView) -> Response:
        """Answer 200 with the item, or 304 if the client has it.

        Raises:
            ProblemError: the key or a header is invalid, or the item does not exist.
            NotYetVisibleError: the command that `Read-After` names is not visible yet.
        """
        media = _choose_media(view)
        key = read_key(spec, view.path.get("key", ""))
        rows = self._fetch_rows(spec, key, view.headers.get("read-after"))
        if not rows:
            raise ProblemError(Problem("not_found", f"{spec.path} has no item {key!r}"))
        version, text = rows[0]
        tag = item_tag(original_version(version), media.value, text)
        headers = {"ETag": tag, "Cache-Control": _CACHE_CONTROL, "Vary": _VARY}
        if is_known(headers["ETag"], view.headers.get("if-none-match")):
            return Response(304, headers=headers)
        return Response(200, text, content_type=media.content_type, headers=headers)

    def _fetch_rows(self, spec: ResourceSpec, key: KeyValue, version: str | None) -> Rows:
        query = self._build_query(spec, key)
        if version is None:
            return self._database.fetch(query)
        now_ms = self._now_ms()
        command_id = read_command_id(
            version_of(version) or version, "bad_header", "Read-After", now_ms
        )
        # Clients can invent ids: only a recent id is worth the wait and a query to the primary.
        is_recent = accepted_ms(command_id) >= now_ms - self._primary_window_ms
        wait_seconds = self._wait_seconds if is_recent else 0
        status, _ = self._visibility.on_replica(spec, key, command_id, wait_seconds=wait_seconds)
        if status != "pending":
            return self._database.fetch(query)
        if is_recent and self._visibility.on_primary(spec, key, command_id) != "pending":
            return self._database.fetch_from_primary(query)
        raise NotYetVisibleError(f"{spec.path}/{key}: command {command_id} is not applied yet")

    def _build_query(self, spec: ResourceSpec, key: KeyValue) -> Query:
        if spec.path not in self._statements:
            self._statements[spec.path] = item_query(spec, key).compose()
        return Query(self._statements[spec.path].text, {"key": key})


def _choose_media(view: RequestView) -> Media:
    return parse_accept(view.headers.get("accept", ""), (Media.JSON, Media.OBJECT))
