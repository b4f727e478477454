"""Reads conditions: one by one from a column's parameter, joined and nested from `and=`, `or=`."""

from __future__ import annotations

import re
from typing import Literal, cast

from forebay.query.ast import Filter, Group
from forebay.query.faults import fault
from forebay.query.grammar import MAX_DEPTH
from forebay.query.operands import read_operand
from forebay.query.operators import read_filter
from forebay.query.scanner import Scanner
from forebay.resource.spec import ResourceSpec

_GROUP = re.compile(r"(?:not\.)?(?:and|or)(?=[ \t]*\()")


def read_group(parameter: str, word: str, text: str, spec: ResourceSpec) -> Group:
    """The conditions of `and=(…)`, `not.or=(…)` and their like.

    Args:
        parameter: for messages.
        word: `and`, `or`, `not.and` or `not.or`.
        text: from bracket to bracket.
        spec: of the resource whose columns they are about.

    Raises:
        ProblemError: PGRST100, or bad_filter if a condition doesn't fit its column.
    """
    scanner = Scanner(parameter, text)
    group = _group(scanner, word, spec, 1)
    scanner.expect_end()
    return group


def _group(scanner: Scanner, word: str, spec: ResourceSpec, depth: int) -> Group:
    if depth > MAX_DEPTH:
        raise fault("PGRST100", scanner.parameter, f"groups nest at most {MAX_DEPTH} deep")
    scanner.bracket("(")
    members = [_member(scanner, spec, depth)]
    scanner.skip_spaces()
    while scanner.take(","):
        scanner.skip_spaces()
        members.append(_member(scanner, spec, depth))
        scanner.skip_spaces()
    scanner.bracket(")")
    joined_by = cast("Literal['and', 'or']", word.removeprefix("not."))
    return Group(joined_by, tuple(members), word.startswith("not."))


def _member(scanner: Scanner, spec: ResourceSpec, depth: int) -> Filter | Group:
    word = scanner.match(_GROUP)
    if word is not None:
        return _group(scanner, word, spec, depth + 1)
    operand = read_operand(scanner, spec, "bad_filter")
    scanner.expect(".")
    return read_filter(scanner, operand, grouped=True)
