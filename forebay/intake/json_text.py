"""Strict JSON parser (RFC 8259, with I-JSON's rules for names and text); refuses ambiguous JSON."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import jiter
import orjson

from forebay.problem import Problem, ProblemError

#: Codes of faults in an item that leave the array around it well-formed.
FAULTS_OF_ITEMS = frozenset({"duplicate_member", "not_utf8", "too_deep", "unstorable_text"})
# A whole string (brackets and commas inside it are not separators), or a separator.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},]', re.DOTALL)
_WHITE_SPACE = b" \t\n\r"  # RFC 8259 §2


class JsonText(NamedTuple):
    """A JSON text and its value, parsed once.

    Validation reads the text: pydantic-core accepts dates, UUIDs and decimals as JSON strings only
    when it parses JSON itself. All other steps use the value.
    """

    text: bytes
    #: Numbers with a fraction or an exponent are `jiter.LosslessFloat`.
    value: Any


def parse_text(raw: bytes) -> JsonText:
    """Parse a JSON text and keep it with its value.

    Raises:
        ProblemError: as `parse`.
    """
    return JsonText(raw, parse(raw))


def parse(raw: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse a JSON text; numbers with a fraction keep their digits.

    Raises:
        ProblemError: the text is malformed (NaN is), repeats a member, is not UTF-8, is nested too
            deeply, or contains a lone surrogate.
    """
    try:
        return jiter.from_json(
            raw, allow_inf_nan=False, catch_duplicate_keys=True, float_mode="lossless-float"
        )
    except ValueError as exc:
        raise ProblemError(_describe_problem(raw, str(exc))) from None


def split_array(raw: bytes) -> list[bytes] | None:
    """Split a JSON array at its commas into the texts of its items, which are not parsed.

    Returns:
        The texts; None if brackets don't enclose the whole.
    """
    text = raw.strip(_WHITE_SPACE)
    return _split(text) if text.startswith(b"[") else None


def dump(value: object, *, sort_members: bool = False) -> bytes:
    """Serialize a parsed value; numbers keep their digits."""
    option = orjson.OPT_SORT_KEYS if sort_members else None
    try:
        return orjson.dumps(value, default=_write_digits, option=option)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits, valid for a decimal field
        return orjson.dumps(_convert_long_integers(value), default=_write_digits, option=option)


def _split(text: bytes) -> list[bytes] | None:
    """Split at the commas of the outermost brackets; None if they don't enclose the whole text."""
    items, depth, start = [], 0, 1
    for token in _TOKEN.finditer(text):
        if token[0] in b"[{":
            depth += 1
        elif token[0] in b"]}":
            depth -= 1
            if depth == 0:
                items.append(text[start : token.start()].strip(_WHITE_SPACE))
                return items if token.end() == len(text) and token[0] == b"]" else None
        elif token[0] == b"," and depth == 1:
            items.append(text[start : token.start()].strip(_WHITE_SPACE))
            start = token.end()
    return None


def _convert_long_integers(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Replace integers beyond 64 bits, which orjson can't serialize, by their digits."""
    if isinstance(value, dict):
        return {name: _convert_long_integers(element) for name, element in value.items()}
    if isinstance(value, list):
        return [_convert_long_integers(element) for element in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return orjson.Fragment(str(value))
    return value


def _write_digits(value: object) -> orjson.Fragment:
    if isinstance(value, jiter.LosslessFloat):
        return orjson.Fragment(bytes(value))
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _describe_problem(raw: bytes, message: str) -> Problem:
    if message.startswith("Detected duplicate key"):
        return Problem("duplicate_member", message)
    if message.startswith("recursion limit"):
        return Problem("too_deep", message)
    if not _is_utf8(raw):
        return Problem("not_utf8", message)
    if "hex escape" in message and _has_lone_surrogate(raw):
        return Problem("unstorable_text", f"a surrogate without its partner: {message}")
    return Problem("malformed_json", message)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_lone_surrogate(raw: bytes) -> bool:
    """Return True if the text is valid JSON except for a lone surrogate."""
    try:
        json.dumps(json.loads(raw), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False
