"""Parser for conditions: `column=…`, `relation.column=…`, and nested groups in `and=`, `or=`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, cast

from forebay.problem import ProblemError
from forebay.query.ast import Operand
from forebay.query.faults import fault, listed, shown
from forebay.query.grammar import LOGIC, MANY_PARAMETERS, MAX_DEPTH
from forebay.query.levels import Draft, DraftGroup, DraftPresence, Level, Setting
from forebay.query.operands import find_column, read_operand, read_path
from forebay.query.operators import OPERATORS, read_filter
from forebay.query.scanner import Scanner

_GROUP = re.compile(r"(?:not\.)?(?:and|or)(?=[ \t]*\()")
_SETTING = re.compile(rf"(?:{'|'.join(MANY_PARAMETERS)})(?=[.(])")
#: An operator, possibly negated, or an arrow: the name before it is a column, not a relation.
_OPERATOR = re.compile(rf"\.(?:not\.)?(?:{'|'.join(OPERATORS)})(?=[.(])|->")
_PRESENCE = re.compile(r"(not\.)?is\.(not_null|null)(?=[ \t]*(?:[,)]|$))", re.IGNORECASE)
_STATES: Final = "is.null or not.is.null"


def read_parameter(level: Level, name: str, setting: Setting) -> None:
    """Parse one parameter into the level that its name refers to.

    Args:
        level: the level that the name is relative to.
        name: the parameter's name relative to that level.
        setting: the whole name, for messages, and the parameter's text.

    Raises:
        ProblemError: PGRST108 or unknown_parameter, no field or relation has the name; other codes,
            the text is invalid.
    """
    column = level.spec.column(name)
    relation_name, _, remainder = name.partition(".")
    if column is not None:
        level.conditions.append(_read_filter(Operand(column), setting))
    elif name in LOGIC:
        _read_group(level, name, setting)
    elif level.join is not None and name in MANY_PARAMETERS:
        level.set(name, setting)
    elif levels := level.named(relation_name):
        for nested in levels:
            if remainder:
                read_parameter(nested, remainder, setting)
            else:
                level.conditions.append(_read_presence(nested, setting))
    else:
        level.conditions.append(_read_free_filter(level, name, setting))


def _read_filter(operand: Operand, setting: Setting) -> Draft:
    scanner = Scanner(*setting)
    draft = read_filter(scanner, operand, grouped=False)
    scanner.expect_end()
    return draft


def _read_free_filter(level: Level, name: str, setting: Setting) -> Draft:
    """Parse a filter on a JSON path or on a quoted column name.

    Only forms contain such names: they are not cache keys, so a GET ignores them.
    """
    if "->" not in name and '"' not in name:
        raise _describe_unknown_name(level, name, setting.parameter)
    scanner = Scanner(setting.parameter, name)
    operand = read_operand(scanner, level.spec, "bad_filter")
    scanner.expect_end()
    return _read_filter(operand, setting)


def _describe_unknown_name(level: Level, name: str, parameter: str) -> ProblemError:
    relation_name, dot, _ = name.partition(".")
    if dot or any(relation_name in relation.names for relation in level.relations):
        return not_embedded(parameter, relation_name)
    columns = listed(column.name for column in level.spec.columns)
    detail = f"{level.spec.path} has no column {shown(name)}; it has {columns}"
    return fault("unknown_parameter", parameter, detail)


def not_embedded(parameter: str, name: str) -> ProblemError:
    """Create the problem PGRST108: a relation is named but not selected."""
    return fault(
        "PGRST108",
        parameter,
        f"{shown(name)} is not embedded in this request",
        f"Add it to select, by this name or with this alias: select=*,{name}(*)",
    )


def _read_presence(level: Level, setting: Setting) -> Draft:
    match = _PRESENCE.fullmatch(setting.text)
    if match is None:
        name = setting.parameter
        raise fault(
            "bad_filter",
            name,
            f"is a relation, which supports {_STATES}; filter its columns with {name}.column",
        )
    return DraftPresence(level, negated=_is_negated(match))


def _is_negated(match: re.Match[str]) -> bool:
    """Return True for `is.null` and `not.is.not_null`, which require that no row is related."""
    return (match[1] is None) is (match[2].lower() == "null")


def _read_group(level: Level, word: str, setting: Setting) -> None:
    scanner = Scanner(*setting)
    level.conditions += _parse_group(scanner, word, level, 1, outermost=True)
    scanner.expect_end()


def _parse_group(
    scanner: Scanner, word: str, level: Level, depth: int, *, outermost: bool
) -> Sequence[Draft]:
    """Parse a group; return an empty list if all its members filter embedded rows."""
    if depth > MAX_DEPTH:
        raise fault(
            "PGRST100", scanner.parameter, f"groups can be nested at most {MAX_DEPTH} levels deep"
        )
    scanner.bracket("(")
    # An `or` with one member equals that member; some clients can send groups only this way.
    outermost = outermost and (word == "and" or (word == "or" and scanner.is_last_member()))
    members = [*_parse_member(scanner, level, depth, outermost=outermost)]
    scanner.skip_spaces()
    while scanner.take(","):
        scanner.skip_spaces()
        members += _parse_member(scanner, level, depth, outermost=outermost)
        scanner.skip_spaces()
    scanner.bracket(")")
    joined_by = cast("Literal['and', 'or']", word.removeprefix("not."))
    return [DraftGroup(joined_by, tuple(members), word.startswith("not."))] if members else []


def _parse_member(
    scanner: Scanner, level: Level, depth: int, *, outermost: bool
) -> Sequence[Draft]:
    """Parse a member into a condition on the level's rows; empty if it filters embedded rows."""
    word = scanner.match(_GROUP)
    if word is not None:
        return _parse_group(scanner, word, level, depth + 1, outermost=outermost)
    name = scanner.name()
    column = level.spec.column(name)
    levels = level.named(name)
    if levels and not (column is not None and scanner.looks_at(_OPERATOR)):
        scanner.expect(".")
        return _parse_related(scanner, name, levels, depth, outermost=outermost)
    if column is None and scanner.next_is(".") and not scanner.looks_at(_OPERATOR):
        raise not_embedded(scanner.parameter, name)
    column = find_column(level.spec, name, scanner.parameter, "bad_filter")
    operand = read_path(scanner, column, "bad_filter")
    scanner.expect(".")
    return [read_filter(scanner, operand, grouped=True)]


def _parse_related(
    scanner: Scanner, name: str, levels: Sequence[Level], depth: int, *, outermost: bool
) -> Sequence[Draft]:
    """Parse `relation.is.null`, or a filter or setting for the relation's own rows."""
    match = scanner.take_match(_PRESENCE)
    if match is not None:
        return [DraftPresence(level, negated=_is_negated(match)) for level in levels]
    if not outermost:
        raise fault(
            "PGRST100",
            scanner.parameter,
            f"conditions on the rows of {shown(name)} filter only these rows, so they must be in "
            f"the outermost and=(…). In other groups, {shown(name)} supports {_STATES}",
        )
    start = scanner.place
    for level in levels:
        scanner.place = start
        _read_within(scanner, level, depth)
    return ()


def _read_within(scanner: Scanner, level: Level, depth: int) -> None:
    word = scanner.match(_SETTING)
    if word is not None and level.spec.column(word) is None:
        scanner.take(".")
        level.set(word, Setting(scanner.parameter, scanner.bracketed().strip()))
        return
    word = scanner.match(_GROUP)
    if word is not None:
        level.conditions += _parse_group(scanner, word, level, depth + 1, outermost=True)
        return
    level.conditions += _parse_member(scanner, level, depth, outermost=True)
