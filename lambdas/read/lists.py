"""`GET /{resource}`: a page of items, and the link to the next."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from forebay.http import Response
from forebay.query.ast import ListQuery
from forebay.query.cursor import make_cursor
from forebay.query.parse import parse_list
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX, RequestView
from lambdas.read.database import ReadDatabase, Rows
from lambdas.read.sql import list_query

# A Lambda answers 6 MB at most; a page of large rows ends before, and its link goes on from there.
_MAX_PAGE_CHARACTERS = 1_400_000  # UTF-8 takes up to four bytes for each


class ListReader:
    """Reads lists."""

    def __init__(self, database: ReadDatabase) -> None:
        self._database = database

    def read(self, spec: ResourceSpec, view: RequestView) -> Response:
        """200 with a JSON array; `Link` names the next page if there is one (RFC 8288).

        Raises:
            ProblemError: a parameter can't be understood, or the next page can't be named.
        """
        query = parse_list(spec, view.query)
        rows = self._database.fetch(list_query(spec, query))
        page = _page(rows, query.limit)
        headers = {"Cache-Control": "no-cache"}
        if page and len(page) < len(rows):
            headers["Link"] = _next_link(spec, view, query, page)
        return Response(200, "[" + ",\n".join(row[0] for row in page) + "]", headers=headers)


def _page(rows: Rows, limit: int) -> Rows:
    size = 0
    for count, row in enumerate(rows[:limit]):
        size += len(row[0])
        if size > _MAX_PAGE_CHARACTERS and count:
            return rows[:count]
    return rows[:limit]


def _next_link(spec: ResourceSpec, view: RequestView, query: ListQuery, page: Rows) -> str:
    cursor = make_cursor(query.fingerprint, page[-1][1:])
    parameters = {**view.query, "cursor": cursor}
    text = urlencode(sorted(parameters.items()), quote_via=quote, safe="().,:*")
    return f'<{API_PREFIX}/{spec.path}?{text}>; rel="next"'
