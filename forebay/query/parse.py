"""Parses the query parameters of a list; every fault names the parameter and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from forebay.query.ast import Embedded, Filter, Group, ListQuery, Operand, OrderTerm, Position
from forebay.query.cost import check_cost
from forebay.query.cursor import bad_cursor, fingerprint, read_cursor
from forebay.query.faults import fault, shown
from forebay.query.grammar import (
    LOGIC,
    MANY_PARAMETERS,
    MAX_CONDITIONS,
    MAX_PARAMETER_LENGTH,
    list_parameters,
)
from forebay.query.logic import read_group
from forebay.query.operators import read_filter
from forebay.query.order import read_order
from forebay.query.paging import read_window
from forebay.query.representation import RowRange
from forebay.query.scanner import Scanner
from forebay.query.select import Join, read_select
from forebay.resource.relations import Relation
from forebay.resource.spec import ResourceSpec


def parse_list(
    spec: ResourceSpec,
    relations: Sequence[Relation],
    query: Mapping[str, str],
    rows: RowRange | None = None,
) -> ListQuery:
    """The query of a list request.

    Args:
        spec: of the resource.
        relations: those that start from it.
        query: the route's declared parameters that the request has.
        rows: what `Range` asks for; `limit` and `offset` narrow it further.

    Raises:
        ProblemError: a parameter can't be understood.
    """
    given = _given(list_parameters(spec, relations), query)
    where = _where(spec, given, "")
    order = read_order("order", given.get("order"), spec)
    read = read_select("select", given.get("select"), spec, relations)
    _refuse_unselected(relations, given, {m.written for m in read if isinstance(m, Join)})
    select = tuple(_embedded(m, given) if isinstance(m, Join) else m for m in read)
    embedded = [member for member in select if isinstance(member, Embedded)]
    _limit_conditions(where, *(member.where for member in embedded))
    limit, offset = read_window("", given.get("limit"), given.get("offset"), rows)
    mark = fingerprint(spec, where, order, (member for member in embedded if member.inner))
    parsed = ListQuery(
        select=select,
        where=where,
        order=order,
        limit=limit,
        offset=offset,
        position=_position(given.get("cursor"), mark, order, offset),
        fingerprint=mark,
    )
    check_cost(parsed)
    return parsed


def _given(names: Sequence[str], query: Mapping[str, str]) -> dict[str, str]:
    """The parameters, looked at by their declared names only (law 5)."""
    given = {name: query[name] for name in names if name in query}
    for name, text in given.items():
        if len(text) > MAX_PARAMETER_LENGTH:
            raise fault("PGRST100", name, f"is longer than {MAX_PARAMETER_LENGTH} characters")
        if "\x00" in text or not _encodable(text):
            raise fault("PGRST100", name, f"{shown(text)} holds NUL or is no Unicode text")
    return given


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _where(spec: ResourceSpec, given: Mapping[str, str], prefix: str) -> Group:
    """Everything that the parameters with this prefix ask of the rows."""
    members: list[Filter | Group] = []
    for column in spec.columns:
        name = prefix + column.name
        if name in given:
            scanner = Scanner(name, given[name])
            members.append(read_filter(scanner, Operand(column), grouped=False))
            scanner.expect_end()
    members += [
        read_group(prefix + word, word, given[prefix + word], spec)
        for word in LOGIC
        if prefix + word in given
    ]
    return Group(members=tuple(members))


def _embedded(join: Join, given: Mapping[str, str]) -> Embedded:
    prefix, target = f"{join.written}.", join.relation.target
    order: tuple[OrderTerm, ...] = ()
    limit, offset = 1, 0
    if join.relation.many:
        order = read_order(f"{prefix}order", given.get(f"{prefix}order"), target)
        limit, offset = read_window(
            prefix, given.get(f"{prefix}limit"), given.get(f"{prefix}offset")
        )
    else:
        for name in (prefix + word for word in MANY_PARAMETERS):
            if name in given:
                raise fault("PGRST100", name, f"{join.written} is one row or none")
    return Embedded(
        relation=join.relation,
        name=join.name,
        inner=join.inner,
        members=join.members,
        where=_where(target, given, prefix),
        order=order,
        limit=limit,
        offset=offset,
    )


def _refuse_unselected(
    relations: Sequence[Relation], given: Mapping[str, str], selected: set[str]
) -> None:
    """Refuses parameters of relations that `select` does not name in these words."""
    known = {name for relation in relations for name in relation.names}
    for parameter in given:
        name, dot, _ = parameter.partition(".")
        if dot and name in known and name not in selected:
            raise fault(
                "PGRST108",
                parameter,
                f"{name} is not embedded in this request",
                f"Name it in select: select=*,{name}(*)",
            )


def _limit_conditions(*groups: Group) -> None:
    count = sum(1 for group in groups for _ in _filters(group))
    if count > MAX_CONDITIONS:
        raise fault("bad_filter", "filters", f"there are {count}, {MAX_CONDITIONS} is most")


def _filters(group: Group) -> Iterator[Filter]:
    for member in group.members:
        if isinstance(member, Group):
            yield from _filters(member)
        else:
            yield member


def _position(
    cursor: str | None, mark: str, order: Sequence[OrderTerm], offset: int
) -> Position | None:
    if cursor is None:
        return None
    if offset:
        raise bad_cursor("does not go together with an offset or a Range that begins later")
    return read_cursor(cursor, mark, order)
