"""`Link` of a list: the next and the previous page, by cursor if possible."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from forebay.problem import Problem, ProblemError
from forebay.query.ast import ListQuery
from forebay.query.cursor import make_cursor
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX, QUERY_PATH, RequestView
from lambdas.read.pages import Page

_SAFE = "().,:*!"
_PLAIN = re.compile(rf"[a-zA-Z0-9_.~\-{re.escape(_SAFE)}]*")


def build_links(
    spec: ResourceSpec, view: RequestView, query: ListQuery, page: Page, *, states_limit: bool
) -> str:
    """The header's value (RFC 8288); empty if there is no other page.

    Args:
        spec: the resource.
        view: the request; the links repeat its parameters.
        query: the parsed request.
        page: the page that the links start from.
        states_limit: add the number of rows to the links, which can't contain a `Range`.

    Raises:
        ProblemError: there are more rows, but no link can address them.
    """
    parameters = {name: view.query[name] for name in view.query.keys() - {"cursor", "offset"}}
    if states_limit:
        parameters["limit"] = str(query.limit)
    return ", ".join(
        f'<{_build_address(f"/{spec.path}", {**parameters, **position})}>; rel="{relation}"'
        for relation, position in _list_neighbours(query, page)
    )


def build_form_links(spec: ResourceSpec, query: ListQuery, page: Page) -> str:
    """Like `build_links`, for a query sent as a form: the addresses for sending its body again.

    Raises:
        ProblemError: as `build_links`.
    """
    return ", ".join(
        f'<{_build_address(f"{QUERY_PATH}/{spec.path}", position)}>; rel="{relation}"'
        for relation, position in _list_neighbours(query, page)
    )


def _list_neighbours(query: ListQuery, page: Page) -> Iterator[tuple[str, dict[str, str]]]:
    if page.rows_behind and page.last is not None:
        cursor = make_cursor(query.fingerprint, page.last)
        yield "next", _build_parameters(query, cursor, query.offset + page.rows)
    if page.rows_before and page.first is not None:
        cursor = make_cursor(query.fingerprint, page.first, backward=True)
        yield "prev", _build_parameters(query, cursor, max(0, query.offset - query.limit))


def _build_parameters(query: ListQuery, cursor: str | None, offset: int) -> dict[str, str]:
    """Use an offset if the order's values are too long for a cursor."""
    if cursor is not None:
        return {"cursor": cursor}
    if query.position is None:
        return {"offset": str(offset)}
    # Without a link, the client would not learn that there are more rows.
    raise ProblemError(
        Problem(
            "bad_order",
            "order: a row's values are too long to go on from",
            hint="Page by offset instead of cursor, or order by something shorter.",
        )
    )


def _build_address(path: str, parameters: dict[str, str]) -> str:
    pairs = [f"{_quote(name)}={_quote(value)}" for name, value in sorted(parameters.items())]
    return f"{API_PREFIX}{path}?{'&'.join(pairs)}"


def _quote(text: str) -> str:
    """Most texts need no quoting, and the pattern is much faster than `quote`."""
    return text if _PLAIN.fullmatch(text) else quote(text, safe=_SAFE)
