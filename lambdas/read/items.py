"""`GET /{resource}/{key}`: one item, with an ETag that names its version and its bytes."""

from __future__ import annotations

from forebay.command import KeyValue
from forebay.conditional import build_item_tag, is_known
from forebay.http import Response
from forebay.ids import original_version
from forebay.keys import read_key
from forebay.problem import Problem, ProblemError
from forebay.query.representation import Media, parse_accept
from forebay.resource.spec import ResourceSpec
from forebay.routes import RequestView
from lambdas.read.cached import CachedAnswers
from lambdas.read.database import ReadDatabase, Rows
from lambdas.read.read_after import NamedCommand, ReadAfter, describe_pending
from lambdas.read.sql.rows import item_query, key_values
from lambdas.read.sql.statement import Query

# Caches may store the answer but must revalidate it, which the ETag makes cheap (RFC 9111
# §5.2.2.4).
_CACHE_CONTROL = "no-cache"
_VARY = "Accept, Read-After"


class ItemReader:
    """Reads items."""

    def __init__(
        self, database: ReadDatabase, read_after: ReadAfter, cache: CachedAnswers | None = None
    ) -> None:
        self._database = database
        self._cache = cache
        self._read_after = read_after
        #: The statements by the resource's path; only the values vary.
        self._statements: dict[str, Query] = {}

    def read(self, spec: ResourceSpec, view: RequestView) -> Response:
        """Answer 200 with the item, or 304 if the client has it.

        Raises:
            ProblemError: the key or a header is invalid, or the item does not exist.
            NotYetVisibleError: the command that `Read-After` names is not visible yet.
        """
        media = _choose_media(view)
        key = read_key(spec, view.path.get("key", ""))
        response = self._read_answer(spec, key, view, media)
        if is_known(response.headers["ETag"], view.headers.get("if-none-match")):
            return Response(304, headers=response.headers)
        return response

    def read_text(self, spec: ResourceSpec, key: KeyValue, view: RequestView) -> str:
        """The item as JSON text.

        Raises:
            ProblemError, NotYetVisibleError: as `read`.
        """
        return self._read_answer(spec, key, view, Media.JSON).body

    def _read_answer(
        self, spec: ResourceSpec, key: KeyValue, view: RequestView, media: Media
    ) -> Response:
        """The answer to a client that has no tag of the item."""
        cache = self._cache
        command = self._read_after.of_item(spec, key, view)
        if command is None and cache is not None:
            return cache.read_item(
                spec, key, view, lambda: _build_answer(spec, key, media, self._fetch(spec, key))
            )
        if command is not None and cache is not None and (command.spec, command.key) == (spec, key):
            response = cache.find_written(spec, key, view, command.id)
            if response is not None:
                return response
        return _build_answer(spec, key, media, self._fetch_after(spec, key, command))

    def _fetch(self, spec: ResourceSpec, key: KeyValue) -> Rows:
        return self._database.fetch(self._build_query(spec, key))

    def _fetch_after(self, spec: ResourceSpec, key: KeyValue, command: NamedCommand | None) -> Rows:
        if command is None or self._read_after.wait_for_replica(command):
            return self._fetch(spec, key)
        if self._read_after.is_on_primary(command):
            return self._database.fetch_from_primary(self._build_query(spec, key))
        raise describe_pending(command)

    def _build_query(self, spec: ResourceSpec, key: KeyValue) -> Query:
        if spec.path not in self._statements:
            self._statements[spec.path] = item_query(spec, key).compose()
        return Query(self._statements[spec.path].text, key_values(spec, key))


def _build_answer(spec: ResourceSpec, key: KeyValue, media: Media, rows: Rows) -> Response:
    if not rows:
        raise ProblemError(Problem("not_found", f"{spec.path} has no item {key!r}"))
    version, state_tag, text = rows[0]
    tag = build_item_tag(state_tag or original_version(version), media.value, text)
    headers = {"ETag": tag, "Cache-Control": _CACHE_CONTROL, "Vary": _VARY}
    return Response(200, text, content_type=media.content_type, headers=headers)


def _choose_media(view: RequestView) -> Media:
    return parse_accept(view.headers.get("accept", ""), (Media.JSON, Media.OBJECT))
