"""Parser for `limit` and `offset`, which combines them with `Range`."""

from __future__ import annotations

import re
from typing import Final

from forebay.problem import Problem, ProblemError
from forebay.query.faults import fault, shown
from forebay.query.grammar import DEFAULT_LIMIT, MAX_LIMIT, MAX_OFFSET
from forebay.query.representation import RowRange

_DIGITS = re.compile(r"[0-9]+")
_NEGATIVE = re.compile(r"-[0-9]+")
_MAX_DIGITS: Final = len(str(MAX_OFFSET))


def read_window(
    prefix: str, limit: str | None, offset: str | None, rows: RowRange | None = None
) -> tuple[int, int]:
    """Return limit and offset of the rows that are in both the parameters and the range.

    A limit above `MAX_LIMIT` is accepted and reduced to it, as with PostgREST's `db-max-rows`.

    Raises:
        ProblemError: PGRST100, not a number; PGRST103, the limit is negative, or range and
            parameters have no rows in common.
    """
    start = 0 if offset is None else _read_number(f"{prefix}offset", offset)
    end = None
    if limit is not None:
        if _NEGATIVE.fullmatch(limit):
            raise _describe_unsatisfiable(f"{prefix}limit must be 0 or more, not {shown(limit)}")
        count = _read_number(f"{prefix}limit", limit)
        if count == 0:
            return 0, start
        end = start + count - 1
    if rows is None:
        size = DEFAULT_LIMIT if end is None else end - start + 1
        return min(size, MAX_LIMIT), start
    return _intersect(start, end, rows)


def _intersect(start: int, stop: int | None, rows: RowRange) -> tuple[int, int]:
    start = min(max(start, rows.first), MAX_OFFSET)
    ends = [end for end in (stop, rows.last) if end is not None]
    if not ends:
        return MAX_LIMIT, start
    size = min(ends) - start + 1
    if size < 1:
        raise _describe_unsatisfiable("Range begins after its own end, or after the end of limit")
    return min(size, MAX_LIMIT), start


def _read_number(parameter: str, text: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise fault("PGRST100", parameter, f"{shown(text)} is not a whole number of 0 or more")
    digits = text.lstrip("0") or "0"
    # No table has that many rows, so a greater number has the same answer.
    return MAX_OFFSET if len(digits) > _MAX_DIGITS else min(int(digits), MAX_OFFSET)


def _describe_unsatisfiable(detail: str) -> ProblemError:
    return ProblemError(Problem("PGRST103", detail, details=detail))
