"""Answers from the read cache, between the read function and the replicas.

An instance answers one request at a time, so it never asks a replica twice at once for one answer.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import orjson
import psycopg

from forebay.conditional import parse_version
from forebay.http import Response
from forebay.metrics import (
    CACHE_ANSWERS_REFUSED,
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_SKIPPED,
    Metric,
)
from forebay.read_cache.link import CacheUnavailableError
from forebay.read_cache.positions import SHOWN_POSITION, Position
from forebay.read_cache.reader import CacheReader, Claim
from forebay.read_cache.records import MAX_ANSWER_BYTES, name_item, name_lists
from forebay.resource.spec import ResourceSpec
from forebay.routes import RequestView
from lambdas.read.database import ReadDatabase
from lambdas.read.sql.statement import Query

#: Headers that an answer is compared with, or waits for, before it is sent; it does not depend on
#: them.
_BESIDE_THE_ANSWER: Final = frozenset({"if-none-match", "read-after"})
_SHOWN_POSITION: Final = Query(SHOWN_POSITION.encode(), {})


class CachedAnswers:
    """Answers requests from the cache, or else from the replicas, and stores those answers."""

    def __init__(
        self,
        reader: CacheReader,
        database: ReadDatabase,
        specs: Mapping[str, ResourceSpec],
    ) -> None:
        """Create it.

        Args:
            reader: the cache.
            database: the replicas.
            specs: the declarations: a release with others does not share its answers.
        """
        self._reader = reader
        self._database = database
        self._release = _hash_shapes(specs)
        self._counts: Counter[Metric] = Counter()

    def read_item(
        self, spec: ResourceSpec, key: int | str, view: RequestView, build: Callable[[], Response]
    ) -> Response:
        """Answer with an item.

        Args:
            spec: the resource.
            key: the item's key.
            view: the request.
            build: reads the answer from a replica; raises an error instead of a failed answer.
        """
        return self._read(self._describe(spec, view), [name_item(spec.path, key)], build)

    def find_written(
        self, spec: ResourceSpec, key: int | str, view: RequestView, command_id: str
    ) -> Response | None:
        """The cached answer with an item, if the item is just as the command left it.

        Its entity tag proves that; no other proof covers a change that was not announced.
        """
        request, names = self._describe(spec, view), [name_item(spec.path, key)]
        lookup = self._find(request, names)
        if isinstance(lookup, bytes):
            response = _decode(lookup)
            if parse_version(response.headers["ETag"]) == command_id:
                self._counts[CACHE_HITS] += 1
                return response
        if lookup is not None:
            self._counts[CACHE_MISSES] += 1
        return None

    def read_list(
        self,
        spec: ResourceSpec,
        others: Collection[str],
        view: RequestView,
        build: Callable[[], Response],
    ) -> Response:
        """Answer with a page of a list; `others` are the paths of further resources in it."""
        names = [name_lists(path) for path in sorted({spec.path, *others})]
        return self._read(self._describe(spec, view), names, build)

    def take_counts(self) -> Mapping[Metric, float]:
        """The metrics since the last call."""
        counts: dict[Metric, float] = dict(self._counts)
        self._counts.clear()
        return counts

    def _read(
        self, request: bytes, names: Sequence[str], build: Callable[[], Response]
    ) -> Response:
        lookup = self._find(request, names)
        if isinstance(lookup, bytes):
            self._counts[CACHE_HITS] += 1
            return _decode(lookup)
        if lookup is None:
            return build()
        self._counts[CACHE_MISSES] += 1
        is_proven = self._is_proven(lookup)
        changes = self._database.changes
        response = build()
        # Another server that answered in between is no proof.
        if is_proven and self._database.changes == changes:
            self._store(lookup, response)
        return response

    def _find(self, request: bytes, names: Sequence[str]) -> bytes | Claim | None:
        try:
            return self._reader.find(request, names)
        except CacheUnavailableError:
            self._counts[CACHE_SKIPPED] += 1
            return None

    def _is_proven(self, claim: Claim) -> bool:
        """Return whether the replica shows every change that was announced before the claim."""
        shown = Position.of_row(self._database.fetch(_SHOWN_POSITION)[0])
        is_proven = claim.is_proven_by(shown)
        if not is_proven:
            self._counts[CACHE_ANSWERS_REFUSED] += 1
        return is_proven

    def _store(self, claim: Claim, response: Response) -> None:
        answer = _encode(response)
        if len(answer) > MAX_ANSWER_BYTES:
            return
        try:
            self._reader.store(claim, answer)
        except CacheUnavailableError:
            self._counts[CACHE_SKIPPED] += 1

    def _describe(self, spec: ResourceSpec, view: RequestView) -> bytes:
        """Every part of the request that the answer depends on; law 5's cache key has them too."""
        headers = {
            name: value for name, value in view.headers.items() if name not in _BESIDE_THE_ANSWER
        }
        parts = [sorted(part.items()) for part in (view.path, view.query, headers)]
        # Texts of requests may have lone surrogates, which `repr` escapes.
        return repr((self._release, spec.path, *parts)).encode()


def read_current_position(database: ReadDatabase, statement: Query) -> Position:
    """The primary's position.

    Raises:
        CacheUnavailableError: the primary did not answer, so the cache can't be used.
    """
    try:
        return Position.of_row(database.fetch_from_primary(statement)[0])
    except psycopg.Error as exc:
        raise CacheUnavailableError(f"the primary did not answer: {str(exc).strip()}") from exc


def _hash_shapes(specs: Mapping[str, ResourceSpec]) -> str:
    """A digest of everything that a declaration says about an answer."""
    shapes = [
        (spec.path, spec.table, [(field.name, field.kind.value) for field in spec.columns])
        for _, spec in sorted(specs.items())
    ]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]


def _encode(response: Response) -> bytes:
    head = orjson.dumps([response.status, response.content_type, dict(response.headers)])
    return head + b"\n" + response.body.encode()


def _decode(answer: bytes) -> Response:
    head, _, body = answer.partition(b"\n")
    status, content_type, headers = orjson.loads(head)
    return Response(status, body.decode(), content_type=content_type, headers=headers)
