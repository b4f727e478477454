"""Answers with a page of a list in the requested form, and with its headers.

Serves `GET /{resource}`, and `POST /query/{resource}` for queries that are too long for a URL.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from forebay.access import Access, read_scope
from forebay.conditional import is_known
from forebay.http import Response
from forebay.problem import Problem, ProblemError
from forebay.query.ast import ListQuery
from forebay.query.parse import parse_list
from forebay.query.representation import (
    Count,
    Media,
    Representation,
    RowRange,
    parse_representation,
)
from forebay.resource.relations import Relation
from forebay.resource.spec import ResourceSpec
from forebay.routes import RequestView
from lambdas.read.cached import CachedAnswers
from lambdas.read.database import ReadDatabase
from lambdas.read.links import build_form_links, build_links
from lambdas.read.pages import Page, PagePlan, plan_page, read_page
from lambdas.read.read_after import ReadAfter

#: The parts of a list request that determine its statement, for one resource.
_Request: TypeAlias = tuple[str, frozenset[tuple[str, str]], RowRange | None, Media, Count | None]
_ETAG_DIGITS = 32  # 128 bits
_KEPT = 256  # statements; a long one is some ten kilobytes

# Caches may store the answer but must revalidate it, which the ETag makes cheap (RFC 9111
# §5.2.2.4).
_CACHE_CONTROL = "no-cache"
_VARY = "Accept, Prefer, Range, Range-Unit, Read-After"


class ListReader:
    """Reads lists."""

    def __init__(
        self,
        database: ReadDatabase,
        relations: Mapping[str, Sequence[Relation]],
        access: Access,
        read_after: ReadAfter,
        cache: CachedAnswers | None = None,
    ) -> None:
        self._database = database
        self._cache = cache
        self._relations = relations
        #: The scope to read each resource that a list may show, by its path.
        self._scopes = {
            relation.target.path: read_scope(relation.target.scope_group)
            for known in relations.values()
            for relation in known
        }
        self._access = access
        self._read_after = read_after
        self._kept: OrderedDict[_Request, PagePlan] = OrderedDict()

    def read(self, spec: ResourceSpec, view: RequestView) -> Response:
        """Answer 200 or 206 with the page, or 304 if the client has it.

        Status and `Content-Range` are PostgREST's; `Link` names the previous and the next page
        (RFC 8288).

        Raises:
            ProblemError: a parameter is invalid, the caller may not read a resource that the query
                names, the offset is beyond the last row, or a single object was requested and the
                result has not exactly one row.
            NotYetVisibleError: the command that `Read-After` names is not visible yet.
            psycopg.Error: the database could not answer.
        """
        representation = parse_representation(view.headers)
        page_request = self._parse_request(spec, view, representation)
        if self._cache is None or "read-after" in view.headers:
            response = self._read_answer(spec, representation, page_request, view)
        else:
            # The caller is no part of the answer, so it is checked before.
            self._require_access(page_request, view)
            response = self._cache.read_list(
                spec,
                page_request.others,
                view,
                lambda: self._read_answer(spec, representation, page_request, view),
            )
        if is_known(response.headers["ETag"], view.headers.get("if-none-match")):
            return Response(304, headers=response.headers)
        return response

    def _read_answer(
        self,
        spec: ResourceSpec,
        representation: Representation,
        page_request: PagePlan,
        view: RequestView,
    ) -> Response:
        """The answer to a client that has no tag of the page."""
        page, query = self._read_page(spec, representation, page_request, view)
        link = build_links(spec, view, query, page, states_limit=representation.range is not None)
        response = _build_answer(representation, query, page, link)
        headers = {**response.headers, "Cache-Control": _CACHE_CONTROL, "Vary": _VARY}
        texts = [text.encode() for text in (representation.media, *headers.values())]
        headers["ETag"] = f'W/"{_compute_digest(*texts, page.body)}"'
        return replace(response, headers=headers)

    def read_form(self, spec: ResourceSpec, view: RequestView) -> Response:
        """Answer a query sent as a form: 200 or 206, never stored by caches.

        Its `Link` names the form's address; the client sends the same body there.

        Raises:
            ProblemError, NotYetVisibleError, psycopg.Error: as `read`.
        """
        representation = parse_representation(view.headers)
        relations = self._relations[spec.path]
        query = parse_list(spec, relations, view.query, representation.range, is_form=True)
        # Not kept for later requests: such texts are long and rarely repeated.
        page_request = plan_page(spec, query, representation.media, representation.count)
        page, query = self._read_page(spec, representation, page_request, view)
        response = _build_answer(representation, query, page, build_form_links(spec, query, page))
        return replace(response, headers={**response.headers, "Cache-Control": "no-store"})

    def _read_page(
        self,
        spec: ResourceSpec,
        representation: Representation,
        page_request: PagePlan,
        view: RequestView,
    ) -> tuple[Page, ListQuery]:
        self._require_access(page_request, view)
        self._wait_for_command(spec, page_request, view)
        page = read_page(self._database, page_request)
        if representation.media is Media.OBJECT and page.rows != 1:
            raise ProblemError(_describe_not_one(page.rows))
        if page.total is not None and page_request.query.offset > page.total:
            raise ProblemError(_describe_past_end(page_request.query.offset, page.total))
        return page, page_request.query

    def _require_access(self, page_request: PagePlan, view: RequestView) -> None:
        self._access.require(
            view.caller, {path: self._scopes[path] for path in page_request.others}
        )

    def _wait_for_command(
        self, spec: ResourceSpec, page_request: PagePlan, view: RequestView
    ) -> None:
        """Wait for the command that `Read-After` names, on the replica that is read.

        Unlike an item, a page is not read from the primary, where it could be expensive.
        """
        command = self._read_after.of_list({spec.path, *page_request.others}, view)
        if command is not None:
            self._read_after.require_on_replica(command)

    def _parse_request(
        self, spec: ResourceSpec, view: RequestView, representation: Representation
    ) -> PagePlan:
        """Parse the query and build its statement; both depend on the request only.

        The results are kept for a while: clients repeat queries, and parsing takes as long as
        Postgres needs for some rows.
        """
        query_items = frozenset(view.query.items())
        request = (
            spec.path,
            query_items,
            representation.range,
            representation.media,
            representation.count,
        )
        page_request = self._kept.get(request)
        if page_request is None:
            query = parse_list(spec, self._relations[spec.path], view.query, representation.range)
            page_request = self._kept[request] = plan_page(
                spec, query, representation.media, representation.count
            )
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return page_request


def _build_answer(
    representation: Representation, query: ListQuery, page: Page, link: str
) -> Response:
    is_partial = page.total is not None and page.rows < page.total
    headers = {"Content-Range": _format_content_range(query, page)}
    if link:
        headers["Link"] = link
    if representation.applied:
        headers["Preference-Applied"] = ", ".join(representation.applied)
    return Response(
        206 if is_partial else 200,
        page.body.decode(),
        content_type=representation.media.content_type,
        headers=headers,
    )


def _format_content_range(query: ListQuery, page: Page) -> str:
    """`Content-Range` in PostgREST's form: `0-24/3573458`, with `*` for an unknown or empty part.

    The number of rows before a cursor is unknown.
    """
    total = "*" if page.total is None else str(page.total)
    if query.position is not None or page.rows == 0 or page.total == 0:
        return f"*/{total}"
    return f"{query.offset}-{query.offset + page.rows - 1}/{total}"


def _compute_digest(*parts: bytes) -> str:
    """The digest of a weak tag: equal tags mean equivalent answers, not equal bytes."""
    # Hashed in one call: each call costs as much as some hundred bytes. SHA-256 has processor
    # instructions and takes half the time of BLAKE2.
    lengths_and_parts = [chunk for part in parts for chunk in (len(part).to_bytes(8, "big"), part)]
    return hashlib.sha256(b"".join(lengths_and_parts)).hexdigest()[:_ETAG_DIGITS]


def _describe_not_one(rows: int) -> Problem:
    return Problem(
        "PGRST116",
        "Cannot coerce the result to a single JSON object",
        details=f"The result contains {rows} rows",
    )


def _describe_past_end(offset: int, total: int) -> Problem:
    return Problem(
        "PGRST103",
        "Requested range not satisfiable",
        headers={"Content-Range": f"*/{total}"},
        details=f"An offset of {offset} was requested, but there are only {total} rows.",
    )
