"""Parser for the query parameters of a list; each problem names the parameter and its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from forebay.query.ast import Group, ListQuery, OrderTerm, Position
from forebay.query.cost import check_cost
from forebay.query.cursor import build_cursor_error, fingerprint, read_cursor
from forebay.query.faults import fault, shown
from forebay.query.grammar import (
    LIST_PARAMETERS,
    LOGIC,
    MAX_CONDITIONS,
    MAX_FORM_BYTES,
    MAX_PARAMETER_LENGTH,
    list_parameters,
)
from forebay.query.levels import Level, Setting, filters
from forebay.query.logic import read_parameter
from forebay.query.paging import read_window
from forebay.query.representation import RowRange
from forebay.query.select import read_select
from forebay.resource.relations import Relation
from forebay.resource.spec import ResourceSpec

#: Parameters that are not filters.
_OTHERS: Final = frozenset(LIST_PARAMETERS) - frozenset(LOGIC)


def parse_list(
    spec: ResourceSpec,
    relations: Sequence[Relation],
    query: Mapping[str, str],
    rows: RowRange | None = None,
    *,
    is_form: bool = False,
) -> ListQuery:
    """Parse the parameters of a list request.

    Args:
        spec: the resource.
        relations: the relations from it.
        query: the request's parameters.
        rows: the rows in `Range`; `limit` and `offset` narrow them further.
        is_form: the parameters come from a body, so no cache keeps the answer, and their names may
            be aliases, JSON paths and nested relations. Otherwise undeclared parameters are
            ignored (law 5).

    Raises:
        ProblemError: a parameter is invalid, or the query costs too much.
    """
    declared = list_parameters(spec, relations)
    parameters = (
        dict(query) if is_form else {name: query[name] for name in declared if name in query}
    )
    _check_texts(parameters, MAX_FORM_BYTES if is_form else MAX_PARAMETER_LENGTH)
    members = read_select("select", parameters.get("select"), spec, relations)
    root = Level(spec, members, relations)
    for name in _sort_filters(parameters, declared):
        read_parameter(root, name, Setting(name, parameters[name]))
    if "order" in parameters:
        root.set("order", Setting("order", parameters["order"]))
    select, where, order = root.resolve()
    limit, offset = read_window("", parameters.get("limit"), parameters.get("offset"), rows)
    digest = fingerprint(spec, where, order, select)
    list_query = ListQuery(
        select=select,
        where=where,
        order=order,
        limit=limit,
        offset=offset,
        position=_read_position(parameters.get("cursor"), digest, order, offset),
        fingerprint=digest,
    )
    _limit_conditions(where, *(embedded.where for embedded in list_query.embeddings()))
    check_cost(list_query)
    return list_query


def _sort_filters(parameters: Mapping[str, str], declared: Sequence[str]) -> Iterator[str]:
    """Return the names of the filters, in an order that does not depend on the request's."""
    words = {name: number for number, name in enumerate(declared)}
    filters = parameters.keys() - _OTHERS
    return iter(sorted(filters, key=lambda name: (name in LOGIC, words.get(name, -1), name)))


def _check_texts(parameters: Mapping[str, str], longest: int) -> None:
    for name, text in parameters.items():
        if len(text) > longest:
            raise fault(
                "PGRST100",
                name,
                f"is longer than {longest} characters",
                "Send a query that is too long for a URL as a form: POST /query/{resource}.",
            )
        if any("\x00" in part or not _is_encodable(part) for part in (name, text)):
            raise fault(
                "PGRST100", _show_name(name), f"{shown(text)} contains NUL or is not valid Unicode"
            )


def _show_name(name: str) -> str:
    return name if name.isprintable() else shown(name)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _limit_conditions(*groups: Group) -> None:
    count = sum(1 for _ in filters(groups))
    if count > MAX_CONDITIONS:
        raise fault(
            "bad_filter",
            "filters",
            f"{count} conditions are given, but the maximum is {MAX_CONDITIONS}",
        )


def _read_position(
    cursor: str | None, digest: str, order: Sequence[OrderTerm], offset: int
) -> Position | None:
    if cursor is None:
        return None
    if offset:
        raise build_cursor_error(
            "can't be combined with an offset, or a Range that does not begin at 0"
        )
    return read_cursor(cursor, digest, order)
