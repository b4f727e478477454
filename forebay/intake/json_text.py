"""Reads JSON strictly (RFC 8259, I-JSON where it matters): what is ambiguous is refused."""

from __future__ import annotations

import json
from typing import Any

import jiter
import orjson

from forebay.problem import Problem, ProblemError


def parse(raw: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a JSON text; numbers with a fraction keep their digits.

    Raises:
        ProblemError: malformed (NaN is), a member twice, not UTF-8, nested beyond all reason, or
            text with a surrogate that has no partner.
    """
    try:
        return jiter.from_json(
            raw, allow_inf_nan=False, catch_duplicate_keys=True, float_mode="lossless-float"
        )
    except ValueError as exc:
        raise ProblemError(_problem(raw, str(exc))) from None


def dump(value: object) -> bytes:
    """A parsed value as JSON text again, its numbers digit by digit as they came."""
    try:
        return orjson.dumps(value, default=_digits)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits, which a decimal may well be
        return orjson.dumps(_with_long_integers(value), default=_digits)


def _with_long_integers(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The value with integers beyond 64 bits as their digits, which orjson would not write."""
    if isinstance(value, dict):
        return {name: _with_long_integers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_long_integers(inner) for inner in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return orjson.Fragment(str(value))
    return value


def _digits(value: object) -> orjson.Fragment:
    if isinstance(value, jiter.LosslessFloat):
        return orjson.Fragment(bytes(value))
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _problem(raw: bytes, said: str) -> Problem:
    if said.startswith("Detected duplicate key"):
        return Problem("duplicate_member", said)
    if said.startswith("recursion limit"):
        return Problem("too_deep", said)
    if not _is_utf8(raw):
        return Problem("not_utf8", said)
    if "hex escape" in said and _has_lone_surrogate(raw):
        return Problem("unstorable_text", f"a surrogate without its partner: {said}")
    return Problem("malformed_json", said)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_lone_surrogate(raw: bytes) -> bool:
    """Whether the text would be JSON, were it not for such a surrogate."""
    try:
        json.dumps(json.loads(raw), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False
