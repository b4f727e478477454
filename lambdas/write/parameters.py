"""Reads the query parameters of writes, which are those that PostgREST's clients add to a POST."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from forebay.problem import Problem, ProblemError
from forebay.query.grammar import LOGIC
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX
from lambdas.write.requests import REPLACEMENT_CHARACTER

#: Parameters of a POST. `select` is allowed with `Prefer: return=representation` only.
COLUMNS: Final = "columns"
ON_CONFLICT: Final = "on_conflict"
SELECT: Final = "select"

_NAME: Final = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^",]*))\s*(,|$)')


def read_columns(spec: ResourceSpec, query: Mapping[str, object]) -> frozenset[str] | None:
    """Return the members of items that count; None for all members.

    Raises:
        ProblemError: `columns` is repeated, is no list of names, or names no field of the resource.
    """
    text = get_parameter(query, COLUMNS)
    if text is None:
        return None
    names = _parse_names(COLUMNS, text)
    for name in names:
        if spec.column(name) is None:
            raise ProblemError(
                Problem("PGRST204", f"columns: {spec.path} has no field {name[:80]!a}")
            )
    return frozenset(names)


def check_on_conflict(spec: ResourceSpec, query: Mapping[str, object]) -> None:
    """Check that `on_conflict`, if it is given, names the key.

    Raises:
        ProblemError: it is repeated, or names other fields.
    """
    text = get_parameter(query, ON_CONFLICT)
    if text is not None and _parse_names(ON_CONFLICT, text) != [spec.key.name]:
        raise ProblemError(
            Problem(
                "PGRST127",
                f"on_conflict can only be {spec.key.name}: a write finds an item by its key",
                hint="commands are applied later, so a write can't look for other unique values; "
                "the status of a command that violates one becomes `rejected`",
            )
        )


def refuse_unknown(
    query: Mapping[str, object], known: Sequence[str], spec: ResourceSpec | None = None
) -> None:
    """Refuse parameters that a write does not have.

    Args:
        query: the request's parameters.
        known: the parameters of the write.
        spec: the resource, if the write is of one resource.

    Raises:
        ProblemError: the query has such a parameter.
    """
    unknown = sorted(query.keys() - set(known))
    if not unknown:
        return
    item = f"{API_PREFIX}/{spec.path}/{{{spec.key.name}}}" if spec else "its address"
    hints = {
        **dict.fromkeys(
            LOGIC,
            "filters on single fields are the condition of a write, and all of them must hold",
        ),
        COLUMNS: "only a POST has `columns`",
        ON_CONFLICT: "only a POST has `on_conflict`",
        SELECT: "a write returns the addresses of statuses, not rows: read the item at "
        f"{item} with `Read-After`",
    }
    named = [name for name in unknown if name in hints] or unknown[:1]
    hint = "; ".join(hints[name] for name in named if name in hints) or None
    names = ", ".join(map(ascii, named))
    raise ProblemError(
        Problem("unknown_parameter", f"this write has no parameter {names}", hint=hint)
    )


def refuse_damage(name: str, text: str) -> None:
    """Refuse a filter with bytes that are not UTF-8: a write must not concern another item.

    Raises:
        ProblemError: the text has the character by which API Gateway replaces such bytes.
    """
    if REPLACEMENT_CHARACTER in text:
        detail = (
            f"{name}: there are bytes that are no UTF-8, or the character U+FFFD that stands for "
            "such; encode the text as UTF-8, and send that character in an operation of POST "
            "/commands, as \\ufffd"
        )
        raise ProblemError(Problem("not_utf8", detail))


def get_parameter(query: Mapping[str, object], name: str) -> str | None:
    """Return a parameter's value; None if it is not given.

    Raises:
        ProblemError: it is given twice.
    """
    value = query.get(name)
    if isinstance(value, list):
        if len(value) > 1:
            raise ProblemError(Problem("repeated_parameter", f"{name} is given twice"))
        value = value[0]
    return None if value is None else str(value)


def _parse_names(parameter: str, text: str) -> list[str]:
    """Split a list of names, which may be in double quotes."""
    names, place = [], 0
    while place < len(text):
        match = _NAME.match(text, place)
        if match is None:
            raise ProblemError(
                Problem("PGRST100", f"{parameter} is not a list of names at character {place + 1}")
            )
        quoted, bare, _ = match.groups()
        names.append(re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare.strip())
        place = match.end()
    return names
