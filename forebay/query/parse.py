"""Parses the query parameters of a list; every fault names the parameter and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from forebay.query.ast import Group, ListQuery, OrderTerm, Position
from forebay.query.cost import check_cost
from forebay.query.cursor import bad_cursor, fingerprint, read_cursor
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

#: Parameters that filter nothing.
_OTHERS: Final = frozenset(LIST_PARAMETERS) - frozenset(LOGIC)


def parse_list(
    spec: ResourceSpec,
    relations: Sequence[Relation],
    query: Mapping[str, str],
    rows: RowRange | None = None,
    *,
    is_form: bool = False,
) -> ListQuery:
    """The query of a list request.

    Args:
        spec: of the resource.
        relations: those that start from it.
        query: the request's parameters.
        rows: what `Range` asks for; `limit` and `offset` narrow it further.
        is_form: the parameters are a body's, which no cache keeps. Then they may have any name:
            an alias's, a place in JSON, a relation's of a relation. Else only declared names are
            looked at (law 5).

    Raises:
        ProblemError: a parameter can't be understood.
    """
    declared = list_parameters(spec, relations)
    given = dict(query) if is_form else {name: query[name] for name in declared if name in query}
    _check_texts(given, MAX_FORM_BYTES if is_form else MAX_PARAMETER_LENGTH)
    members = read_select("select", given.get("select"), spec, relations)
    root = Level(spec, members, relations)
    for name in _in_order(given, declared):
        read_parameter(root, name, Setting(name, given[name]))
    if "order" in given:
        root.set("order", Setting("order", given["order"]))
    select, where, order = root.settled()
    limit, offset = read_window("", given.get("limit"), given.get("offset"), rows)
    mark = fingerprint(spec, where, order, select)
    made = ListQuery(
        select=select,
        where=where,
        order=order,
        limit=limit,
        offset=offset,
        position=_position(given.get("cursor"), mark, order, offset),
        fingerprint=mark,
    )
    _limit_conditions(where, *(embedded.where for embedded in made.embeddings()))
    check_cost(made)
    return made


def _in_order(given: Mapping[str, str], declared: Sequence[str]) -> Iterator[str]:
    """The names of all that filters, in one order whatever the request's."""
    words = {name: number for number, name in enumerate(declared)}
    filters = given.keys() - _OTHERS
    return iter(sorted(filters, key=lambda name: (name in LOGIC, words.get(name, -1), name)))


def _check_texts(given: Mapping[str, str], longest: int) -> None:
    for name, text in given.items():
        if len(text) > longest:
            raise fault(
                "PGRST100",
                name,
                f"is longer than {longest} characters",
                "What is too long for a URL can be sent as a form: POST /query/{resource}.",
            )
        if any("\x00" in part or not _encodable(part) for part in (name, text)):
            raise fault(
                "PGRST100", _shown_name(name), f"{shown(text)} holds NUL or is no Unicode text"
            )


def _shown_name(name: str) -> str:
    return name if name.isprintable() else shown(name)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _limit_conditions(*groups: Group) -> None:
    count = sum(1 for _ in filters(groups))
    if count > MAX_CONDITIONS:
        raise fault("bad_filter", "filters", f"there are {count}, {MAX_CONDITIONS} is most")


def _position(
    cursor: str | None, mark: str, order: Sequence[OrderTerm], offset: int
) -> Position | None:
    if cursor is None:
        return None
    if offset:
        raise bad_cursor("does not go together with an offset or a Range that begins later")
    return read_cursor(cursor, mark, order)
