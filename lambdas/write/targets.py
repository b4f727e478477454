"""Reads the keys of the items that a write names by a filter, as PostgREST's clients send them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forebay.command import KeyValue
from forebay.intake.commands import MAX_BATCH_ITEMS
from forebay.keys import read_key
from forebay.problem import Problem, ProblemError
from forebay.query.ast import Operand
from forebay.query.operators import read_filter
from forebay.query.scanner import Scanner
from forebay.resource.spec import ResourceSpec
from lambdas.write.parameters import get_parameter, refuse_damage


@dataclass(frozen=True, slots=True)
class Targets:
    """The items that a write names."""

    keys: tuple[KeyValue, ...]
    #: True for a list of keys, even with a single one.
    is_list: bool


def read_targets(spec: ResourceSpec, query: Mapping[str, object]) -> Targets:
    """Read the filter on the key: `eq` for one item, `in` for several.

    Raises:
        ProblemError: the key has no filter or another filter. A write can't look for rows: it is
            buffered.
    """
    name = spec.key.name
    text = get_parameter(query, name)
    if text is None:
        raise _describe_missing(spec)
    refuse_damage(name, text)
    scanner = Scanner(name, text)
    condition = read_filter(scanner, Operand(spec.key), grouped=False)
    scanner.expect_end()
    if condition.negated or condition.quantifier or condition.operator not in {"eq", "in"}:
        raise _describe_missing(spec)
    if isinstance(condition.value, str):
        return Targets((read_key(spec, condition.value),), is_list=False)
    keys = tuple(dict.fromkeys(read_key(spec, value) for value in condition.value))
    if len(keys) > MAX_BATCH_ITEMS:
        detail = f"{name} lists {len(keys)} keys, the limit is {MAX_BATCH_ITEMS}"
        raise ProblemError(Problem("batch_too_large", detail))
    if not keys:
        raise ProblemError(Problem("empty_batch", f"{name} lists no key"))
    return Targets(keys, is_list=True)


def _describe_missing(spec: ResourceSpec) -> ProblemError:
    name = spec.key.name
    return ProblemError(
        Problem(
            "bad_filter",
            f"{name}: a write names its items by their keys, {name}=eq.… or {name}=in.(…)",
            hint="writes are buffered, so they can't look for rows: read the keys first, then "
            f"send {name}=in.(…). Filters on other fields are the condition of each write",
        )
    )
