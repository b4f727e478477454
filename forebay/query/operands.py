"""Parser for the operand of a condition, order or selection: a column, with or without a path."""

from __future__ import annotations

import re
from typing import Final

from forebay.query.ast import Operand
from forebay.query.faults import fault, listed, shown
from forebay.query.grammar import MAX_PATH
from forebay.query.scanner import Scanner
from forebay.resource.spec import FieldSpec, Kind, ResourceSpec

_INDEX = re.compile(r"-?[0-9]+(?=->|::|[.,)]|$)")
_MEMBER = re.compile(r"[^(\-:.,>)]+(?:-(?!>)[^(\-:.,>)]+)*")
_MAX_INDEX: Final = 2**31 - 1  # Postgres numbers elements with four bytes


def read_operand(scanner: Scanner, spec: ResourceSpec, code: str) -> Operand:
    """Parse `column`, `column->member->0` or `column->>member`.

    Raises:
        ProblemError: PGRST100, or the given code if the column does not exist, is not JSON, or the
            path is too long.
    """
    return read_path(scanner, find_column(spec, scanner.name(), scanner.parameter, code), code)


def find_column(spec: ResourceSpec, name: str, parameter: str, code: str) -> FieldSpec:
    """Return the column with this name.

    Raises:
        ProblemError: the given code, the column does not exist.
    """
    column = spec.column(name)
    if column is None:
        columns = listed(column.name for column in spec.columns)
        raise fault(code, parameter, f"{spec.path} has no column {shown(name)}; it has {columns}")
    return column


def read_path(scanner: Scanner, column: FieldSpec, code: str) -> Operand:
    """Parse the JSON path after a column, which may be empty."""
    path: list[str | int] = []
    as_text = False
    while not as_text and scanner.take("->"):
        as_text = scanner.take(">")
        path.append(_read_step(scanner))
    scanner.skip_spaces()
    if scanner.next_is("->"):
        raise fault(
            "PGRST100",
            scanner.parameter,
            "->> returns text, so no arrow can follow it; use -> before the last step",
        )
    if path and column.kind is not Kind.JSON:
        raise fault(
            code, scanner.parameter, f"{column.name} is {column.kind.value}; only JSON supports ->"
        )
    if len(path) > MAX_PATH:
        raise fault(code, scanner.parameter, f"a path has at most {MAX_PATH} arrows")
    return Operand(column, tuple(path), as_text=as_text)


def _read_step(scanner: Scanner) -> str | int:
    if scanner.next_is('"'):
        return scanner.name()
    index = scanner.match(_INDEX)
    if index is not None:
        if len(index) > len(str(_MAX_INDEX)) + 1 or abs(int(index)) > _MAX_INDEX:
            raise fault(
                "PGRST100", scanner.parameter, f"{shown(index)} is not a valid element number"
            )
        return int(index)
    member = scanner.match(_MEMBER)
    if member is None:
        raise scanner.error("a member's name or an element's number")
    return member.strip()
