"""Parses the items in the body of a write, each once."""

from __future__ import annotations

from typing import TypeAlias

from forebay.intake.commands import MAX_BATCH_ITEMS
from forebay.intake.json_text import FAULTS_OF_ITEMS, JsonText, dump, parse_text, split_array
from forebay.problem import Problem, ProblemError
from lambdas.write.requests import RequestBody

#: An item of a batch, or the reason for its refusal.
ParsedItem: TypeAlias = JsonText | Problem


def parse_item(body: RequestBody) -> JsonText:
    """Parse a body that is one item.

    Raises:
        ProblemError: the body is not JSON, is ambiguous, or may be damaged.
    """
    damage = body.find_damage(body.data)
    if damage is not None:
        raise ProblemError(damage)
    return parse_text(body.data)


def parse_item_or_array(body: RequestBody) -> JsonText | list[ParsedItem]:
    """Parse a body that is one item, or an array of items.

    Raises:
        ProblemError: the body is not JSON; or it is one item, and `parse_item` refuses it; or the
            array is empty or too large.
    """
    try:
        item = parse_item(body)
    except ProblemError:
        # If the array itself is valid JSON, only its ambiguous or damaged items are refused.
        items = _parse_array(body)
        if items is None:
            raise
        _check_count(len(items))
        return items
    if not isinstance(item.value, list):
        return item
    _check_count(len(item.value))
    return [JsonText(dump(value), value) for value in item.value]


def parse_lines(body: RequestBody) -> list[ParsedItem]:
    """Parse a body with one item per line.

    Raises:
        ProblemError: there are too many lines, or none.
    """
    # Not `splitlines`: within a line, a carriage return is white space of JSON.
    lines = [line for line in body.data.split(b"\n") if line.strip()]
    _check_count(len(lines))
    return [body.find_damage(line) or _try_parse(line) for line in lines]


def _parse_array(body: RequestBody) -> list[ParsedItem] | None:
    """Parse the items of an array one by one; None if the whole is not a JSON array."""
    texts = split_array(body.data)
    if texts is None:
        return None
    items: list[ParsedItem] = []
    for text in texts:
        item = _try_parse(text)
        if isinstance(item, Problem) and item.code not in FAULTS_OF_ITEMS:
            return None
        items.append(body.find_damage(text) or item)
    return items


def _try_parse(text: bytes) -> ParsedItem:
    try:
        return parse_text(text)
    except ProblemError as exc:
        return exc.problem


def _check_count(count: int) -> None:
    if count == 0:
        raise ProblemError(Problem("empty_batch", "the batch has no item"))
    if count > MAX_BATCH_ITEMS:
        detail = f"the batch has {count} items, the limit is {MAX_BATCH_ITEMS}"
        raise ProblemError(Problem("batch_too_large", detail))
