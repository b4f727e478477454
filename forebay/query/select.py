"""Parser for `select=`: columns, JSON paths, and related resources."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from forebay.problem import ProblemError
from forebay.query.ast import Cast, Operand, Selected
from forebay.query.faults import fault, listed, shown
from forebay.query.grammar import MAX_LEVELS, MAX_MEMBERS, MAX_NAME_BYTES
from forebay.query.operands import find_column, read_path
from forebay.query.related import find_relation
from forebay.query.scanner import Scanner
from forebay.resource.relations import Relation
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

_MOST_JOINS: Final = 2  # of `!hint` and `!inner`
_TYPE = re.compile(r"[\w $]+")
_AGGREGATE = re.compile(r"\.(?:sum|avg|count|max|min)\(\)")
#: Types of a cast by their spelling.
_CASTS: Final[dict[str, Cast]] = {
    "text": "text", "varchar": "text",
    "integer": "integer", "int": "integer", "int4": "integer",
    "bigint": "bigint", "int8": "bigint",
    "double precision": "double precision", "float": "double precision",
    "float8": "double precision",
    "numeric": "numeric", "decimal": "numeric",
    "boolean": "boolean", "bool": "boolean",
}  # fmt: skip
_HINT_PLACE: Final = (
    "A JSON path can contain any value, so other casts could fail. Use -> instead of ->> to get "
    "the JSON value itself, such as a number."
)
_DOUBLE_DIGITS = 308  # before the point; a double holds no more


@dataclass(frozen=True, slots=True)
class Join:
    """`alias:relation!hint!inner(members)`, with the relation resolved."""

    relation: Relation
    #: The relation's name in the request.
    written: str
    #: The member's name.
    name: str
    inner: bool
    members: tuple[Selected | Join, ...]

    @property
    def is_written(self) -> bool:
        """True if the answer contains the relation."""
        return any(map(_is_written, self.members))


def read_select(
    parameter: str, text: str | None, spec: ResourceSpec, relations: Sequence[Relation]
) -> tuple[Selected | Join, ...]:
    """Parse the members of each object; a missing or empty text selects every column.

    Raises:
        ProblemError: PGRST100, PGRST123, PGRST127, PGRST200, PGRST201, or bad_select.
    """
    if text is None or not text.strip():
        return _select_all(spec)
    scanner = Scanner(parameter, text)
    members = _read_members(scanner, spec, relations, 0)
    scanner.expect_end()
    total = _count_members(members)
    if total > MAX_MEMBERS:
        raise fault(
            "bad_select", parameter, f"has {total} members, but the maximum is {MAX_MEMBERS}"
        )
    if not any(_is_written(member) for member in members):
        raise fault("bad_select", parameter, "must name at least one column to return")
    return members


def list_casts(operand: Operand) -> tuple[Cast, ...]:
    """Return the types that every value of the operand can be cast to."""
    column = operand.column
    match operand.kind:
        case Kind.INTEGER:
            small: tuple[Cast, ...] = ("integer",) if column.sql_type == "integer" else ()
            return ("text", *small, "bigint", "numeric", "double precision")
        case Kind.FLOAT:
            return ("text", "double precision", "numeric")
        case Kind.DECIMAL:
            digits = (column.precision or 0) - (column.scale or 0)
            return ("text", "numeric", *(_list_double() if digits <= _DOUBLE_DIGITS else ()))
        case Kind.BOOLEAN:
            return ("text", "boolean", "integer")
        case _:
            return ("text",)


def _list_double() -> tuple[Cast, ...]:
    return ("double precision",)


def _select_all(spec: ResourceSpec) -> tuple[Selected, ...]:
    return tuple(Selected(Operand(column), column.name) for column in spec.columns)


def _is_written(member: Selected | Join) -> bool:
    return isinstance(member, Selected) or member.is_written


def _count_members(members: Sequence[Selected | Join]) -> int:
    return sum(1 + (_count_members(m.members) if isinstance(m, Join) else 0) for m in members)


def _read_members(
    scanner: Scanner, spec: ResourceSpec, relations: Sequence[Relation], level: int
) -> tuple[Selected | Join, ...]:
    """Parse members up to the end or a closing bracket; `level` is the depth of relations."""
    members: list[Selected | Join] = []
    names: set[str] = set()
    while True:
        for member in _read_member(scanner, spec, relations, level):
            if _is_written(member) and member.name in names:
                raise fault(
                    "bad_select",
                    scanner.parameter,
                    f"two members are named {shown(member.name)}; rename one with an alias: "
                    "alias:name",
                )
            names.add(member.name)
            members.append(member)
        if not scanner.take(","):
            return tuple(members)


def _read_member(
    scanner: Scanner, spec: ResourceSpec, relations: Sequence[Relation], level: int
) -> Sequence[Selected | Join]:
    scanner.skip_spaces()
    if scanner.next_is("..."):
        raise fault(
            "PGRST127",
            scanner.parameter,
            "spreading the members of a related row (...) is not supported",
        )
    if scanner.take("*"):
        _expect_member_end(scanner)
        return _select_all(spec)
    alias, name = None, scanner.name()
    if scanner.next_is(":") and not scanner.next_is("::"):
        scanner.take(":")
        alias, name = _check_name(scanner, name), scanner.name()
    if scanner.next_is("!", "("):
        if level == MAX_LEVELS:
            raise fault(
                "PGRST127",
                scanner.parameter,
                f"{shown(name)} is nested in {MAX_LEVELS} relations, which is the maximum",
            )
        _refuse_count(scanner, name)
        hint, is_inner = _read_join_words(scanner)
        relation = find_relation(scanner.parameter, spec, relations, name, hint)
        members = _read_inside(scanner, relation, level + 1)
        return (Join(relation, name, alias or _check_name(scanner, name), is_inner, members),)
    return (
        _read_selected(scanner, find_column(spec, name, scanner.parameter, "bad_select"), alias),
    )


def _read_selected(scanner: Scanner, column: FieldSpec, alias: str | None) -> Selected:
    operand = read_path(scanner, column, "bad_select")
    cast = _read_cast(scanner, operand) if scanner.take("::") else None
    if scanner.match(_AGGREGATE) is not None:
        raise _describe_no_aggregates(scanner.parameter)
    _expect_member_end(scanner)
    if alias is not None:
        return Selected(operand, alias, cast)
    steps = [step for step in operand.path if isinstance(step, str)]
    return Selected(operand, _check_name(scanner, steps[-1] if steps else column.name), cast)


def _read_cast(scanner: Scanner, operand: Operand) -> Cast:
    name = (scanner.match(_TYPE) or "").strip()
    cast = _CASTS.get(name.lower())
    casts = list_casts(operand)
    if cast is None or cast not in casts:
        raise fault(
            "bad_select",
            scanner.parameter,
            f"{operand.column.name} is {operand.kind.value}, which can't be cast to "
            f"{shown(name)}; it can be cast to {listed(casts)}",
            _HINT_PLACE if operand.path else None,
        )
    return cast


def _refuse_count(scanner: Scanner, name: str) -> None:
    if name == "count" and scanner.next_is("()"):
        raise _describe_no_aggregates(scanner.parameter)


def _read_inside(scanner: Scanner, relation: Relation, level: int) -> tuple[Selected | Join, ...]:
    """Parse the members in a relation's brackets, which may be empty."""
    scanner.expect("(")
    members: tuple[Selected | Join, ...] = ()
    scanner.skip_spaces()
    if not scanner.next_is(")"):
        members = _read_members(scanner, relation.target, relation.onward, level)
    scanner.expect(")")
    _expect_member_end(scanner)
    return members


def _read_join_words(scanner: Scanner) -> tuple[str | None, bool]:
    hint, kind = None, None
    for _ in range(_MOST_JOINS):
        if not scanner.take("!"):
            break
        word = scanner.name()
        if word in {"inner", "left"} and kind is None:
            kind = word
        elif hint is None:
            hint = word
    return hint, kind == "inner"


def _describe_no_aggregates(parameter: str) -> ProblemError:
    return fault("PGRST123", parameter, "aggregate functions are not supported")


def _check_name(scanner: Scanner, name: str) -> str:
    if not name or len(name.encode()) > MAX_NAME_BYTES:
        raise fault(
            "bad_select",
            scanner.parameter,
            f"{shown(name)} is not a valid name for a member: names have 1 to {MAX_NAME_BYTES} "
            "bytes; rename it with an alias: short:name",
        )
    return name


def _expect_member_end(scanner: Scanner) -> None:
    scanner.skip_spaces()
    if not scanner.at_end and not scanner.next_is(",", ")"):
        raise scanner.error("a comma or the end of the member")
