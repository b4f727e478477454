"""Parsers for the text of values; writes, filters, imports and cursors accept the same spellings.

Each function returns the value, or raises ValueError with a predicate for a message: "is not a
date, such as 2026-02-28". pydantic's own parsers are too lenient: they read digits as Unix time.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation

# RFC 8259 §6, without an exponent and without a fraction other than zeros.
_INTEGER = re.compile(r"(-?(?:0|[1-9][0-9]{0,18}))(?:\.0+)?")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
#: Matches the beginning of a number that is not zero.
_NON_ZERO = re.compile(r"-?[0.]*[1-9]")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?"
_ZONE = r"(?:[Zz]|[+-][0-9]{2}(?::[0-9]{2})?)"
# RFC 3339 §5.6; its note allows the blank. Postgres prints blanks, and zones without minutes.
_MOMENT = re.compile(rf"{_DATE.pattern}[Tt ]{_CLOCK}{_ZONE}")
_TIME = re.compile(rf"{_CLOCK}{_ZONE}?")
# RFC 3339, appendix A, without years and months, because their length varies.
_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?=[0-9T])(?:(?P<weeks>[0-9]{1,9})W)?(?:(?P<days>[0-9]{1,9})D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]{1,9})H)?(?:(?P<minutes>[0-9]{1,9})M)?"
    r"(?:(?P<seconds>[0-9]{1,9}(?:\.[0-9]{1,6})?)S)?)?"
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}")
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_DOUBLE_DIGITS = 767  # the longest exact decimal text of a double
_MAX_EXPONENT = 1000  # numeric(p, s) has no more digits
# Subtracts the exact decimal texts of two doubles without rounding.
_EXACT = Context(prec=2 * _DOUBLE_DIGITS, Emin=MIN_EMIN, Emax=MAX_EMAX)


def parse_integer(text: str) -> int:
    """Parse a 64-bit integer: `5`, `-5`, `5.0`.

    An exponent is refused: spreadsheets lose digits when they write one.
    """
    match = _INTEGER.fullmatch(text)
    if match is None or not _INT64_MIN <= int(match[1]) <= _INT64_MAX:
        raise ValueError("is not a 64-bit integer, such as 5")
    return int(match[1])


def parse_double(text: str) -> float:
    """Parse a double; refuse digits that it can't represent, as in `9007199254740993.0`."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("is not a number, such as 1.5 or 2e-3")
    value = float(text)
    try:
        is_kept = math.isfinite(value) and is_text_of(Decimal(text), value)
    except InvalidOperation:  # the exponent exceeds the limits of `decimal`
        is_kept = False
    if not is_kept:
        raise ValueError("has digits that a double can't represent")
    return value


def parse_decimal(text: str) -> Decimal:
    """Parse a decimal number without loss of digits."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("is not a decimal number, such as 1.50")
    try:
        value = Decimal(text)
    except InvalidOperation:  # the exponent exceeds the limits of `decimal`
        if not _NON_ZERO.match(text):
            return Decimal(0)
        raise ValueError("is beyond the range of all decimal fields") from None
    if not value:
        return Decimal(0)  # drops the exponent
    if abs(value.adjusted()) > _MAX_EXPONENT:
        raise ValueError("is beyond the range of all decimal fields")
    return value


def parse_boolean(text: str) -> bool:
    """Parse Postgres's spellings of a boolean (`true`, `yes`, `on`, `1`), but no abbreviations.

    JSON booleans are not text and don't need this function.
    """
    word = text.lower() if text.isascii() else ""
    if word not in _TRUE | _FALSE:
        raise ValueError("is neither true nor false")
    return word in _TRUE


def parse_date(text: str) -> dt.date:
    """Parse an ISO 8601 calendar date with hyphens, in the years 1 to 9999."""
    try:
        return dt.date.fromisoformat(_require_match(_DATE, text))
    except ValueError:
        raise ValueError("is not a date, such as 2026-02-28") from None


def parse_moment(text: str) -> dt.datetime:
    """Parse an RFC 3339 timestamp with its zone; digits beyond microseconds are dropped."""
    try:
        value = dt.datetime.fromisoformat(_require_match(_MOMENT, text).upper())
    except ValueError:
        raise ValueError(
            "is not a timestamp with a time zone, such as 2026-02-28T10:00:00Z"
        ) from None
    try:
        value.astimezone(dt.UTC)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999 in UTC") from None
    return value


def parse_time(text: str) -> dt.time:
    """Parse a time of day, with or without a zone."""
    try:
        return dt.time.fromisoformat(_require_match(_TIME, text).upper())
    except ValueError:
        raise ValueError("is not a time, such as 10:00:00") from None


def parse_duration(text: str) -> dt.timedelta:
    """Parse an ISO 8601 duration of weeks, days, hours, minutes and seconds."""
    fault = ValueError(
        "is not a duration in weeks, days, hours, minutes and seconds, such as P1DT12H"
    )
    match = _DURATION.fullmatch(text)
    if match is None:
        raise fault
    parts = match.groupdict(default="0")
    microseconds = int(Decimal(parts.pop("seconds")) * 1_000_000)
    sign = -1 if parts.pop("sign") == "-" else 1
    try:
        days_to_minutes = dt.timedelta(**{name: int(part) for name, part in parts.items()})
        return sign * (days_to_minutes + dt.timedelta(microseconds=microseconds))
    except OverflowError:
        raise fault from None


def parse_uuid(text: str) -> uuid.UUID:
    """Parse a UUID, with hyphens or as 32 hexadecimal digits."""
    try:
        return uuid.UUID(_require_match(_UUID, text))
    except ValueError:
        raise ValueError("is not a UUID") from None


def is_text_of(exact: Decimal, value: float) -> bool:
    """Return True if double and decimal differ by at most half a unit of the last digit."""
    _, digits, exponent = exact.as_tuple()
    significant = "".join(map(str, digits)).rstrip("0")
    if len(significant.lstrip("0")) > _DOUBLE_DIGITS or not isinstance(exponent, int):
        return False
    unit = Decimal((0, (1,), exponent + len(digits) - len(significant)))
    difference = _EXACT.subtract(exact, Decimal(value)).copy_abs()
    return _EXACT.multiply(difference, Decimal(2)) <= unit


def _require_match(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text
