"""The keys of delivered objects: evaluated prefixes and object names.

The rules are AWS's "Understand custom prefixes for Amazon S3 objects" and "Configure Amazon S3
object name format" (Data Firehose developer guide).
"""

import re
import uuid
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache

EVALUATED_PREFIX_MAX_CHARS = 512  # AWS: neither prefix may be longer once evaluated
DEFAULT_TIME_PREFIX = "yyyy/MM/dd/HH/"  # appended when a prefix has no timestamp expression
RANDOM_STRING_CHARS = 11  # AWS: firehose:random-string

Part = Callable[[datetime], str]

_EXPRESSION = re.compile(r"!\{([A-Za-z]+):([^}]*)\}")


class PrefixError(ValueError):
    """AWS refuses the prefix, or this server can't evaluate it; the message gives the reason."""


def evaluate_prefix(prefix: str, moment: datetime) -> str:
    """Evaluate the expressions in `prefix` at `moment` (an aware UTC time).

    Raises:
        PrefixError: Firehose would not have accepted the prefix for its data.
    """
    return "".join(part(moment) for part in _compile(prefix))


def check_prefix(prefix: str) -> None:
    """Raise PrefixError if `prefix` can't be evaluated, or if the result is too long."""
    longest = datetime.fromisoformat("2000-09-27T12:30:30+00:00")  # a Wednesday in September
    if len(evaluate_prefix(prefix, longest)) > EVALUATED_PREFIX_MAX_CHARS:
        raise PrefixError(f"the evaluated prefix is over {EVALUATED_PREFIX_MAX_CHARS} characters")


def object_key(
    *,
    prefix: str,
    stream: str,
    version: str,
    oldest_arrival: datetime,
    object_id: uuid.UUID,
    extension: str,
) -> str:
    """Return the key of an object; `oldest_arrival` (UTC) is that of its oldest record."""
    evaluated = evaluate_prefix(prefix, oldest_arrival)
    time = oldest_arrival.strftime("%Y-%m-%d-%H-%M-%S")
    return f"{evaluated}{stream}-{version}-{time}-{object_id}{extension}"


@lru_cache(maxsize=256)
def _compile(prefix: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    position = 0
    has_timestamp = False
    for match in _EXPRESSION.finditer(prefix):
        parts.append(_compile_literal(_check_plain(prefix[position : match.start()])))
        parts.extend(_compile_expression(match[1], match[2]))
        has_timestamp = has_timestamp or match[1] == "timestamp"
        position = match.end()
    parts.append(_compile_literal(_check_plain(prefix[position:])))
    if not has_timestamp:
        parts.extend(_compile_timestamp(DEFAULT_TIME_PREFIX))
    return tuple(parts)


def _check_plain(text: str) -> str:
    if "!{" in text:
        raise PrefixError(f"'!{{' outside a !{{namespace:value}} expression in {text!r}")
    return text


def _compile_expression(namespace: str, value: str) -> list[Part]:
    if namespace == "timestamp":
        return _compile_timestamp(value)
    if (namespace, value) == ("firehose", "random-string"):
        # AWS: each occurrence in a prefix is a new random string.
        return [lambda _moment: str(uuid.uuid4())[:RANDOM_STRING_CHARS]]
    raise PrefixError(f"!{{{namespace}:{value}}} can't be evaluated in this server's S3 prefixes")


def _compile_literal(text: str) -> Part:
    return lambda _moment: text


def _compile_timestamp(pattern: str) -> list[Part]:
    """Compile a java.time DateTimeFormatter pattern, with English names."""
    parts: list[Part] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if char == "'":
            text, position = _read_quoted(pattern, position)
            parts.append(_compile_literal(text))
        elif char.isascii() and char.isalpha():
            end = position
            while end < len(pattern) and pattern[end] == char:
                end += 1
            parts.append(_compile_field(char * (end - position)))
            position = end
        elif char in "[]{}#":
            raise PrefixError(f"{char!r} is not supported in the timestamp pattern {pattern!r}")
        else:
            parts.append(_compile_literal(char))
            position += 1
    return parts


def _read_quoted(pattern: str, start: int) -> tuple[str, int]:
    """Return the literal that starts with the quote at `start`, and the position after it."""
    if pattern.startswith("''", start):
        return "'", start + 2
    text = ""
    position = start + 1
    while position < len(pattern):
        if pattern.startswith("''", position):  # a quote inside a quoted literal
            text += "'"
            position += 2
        elif pattern[position] == "'":
            return text, position + 1
        else:
            text += pattern[position]
            position += 1
    raise PrefixError(f"a quote is not closed in the timestamp pattern {pattern!r}")


# java.time letters and their strftime equivalents. strftime's names are English unless the program
# sets a locale, which this program does not.
_FIELDS = {
    **dict.fromkeys(("yyyy", "uuuu"), "%Y"),
    **dict.fromkeys(("yy", "uu"), "%y"),
    "MM": "%m",
    "MMM": "%b",
    "MMMM": "%B",
    "dd": "%d",
    "DDD": "%j",
    "HH": "%H",
    "hh": "%I",
    "mm": "%M",
    "ss": "%S",
    "a": "%p",
    **dict.fromkeys(("E", "EE", "EEE"), "%a"),
    "EEEE": "%A",
}
_UNPADDED = {
    **dict.fromkeys(("y", "u"), "%Y"),
    "M": "%m",
    "d": "%d",
    "D": "%j",
    "H": "%H",
    "h": "%I",
    "m": "%M",
    "s": "%S",
}


def _compile_field(letters: str) -> Part:
    if letters in _FIELDS:
        return lambda moment: moment.strftime(_FIELDS[letters])
    if letters in _UNPADDED:
        return lambda moment: str(int(moment.strftime(_UNPADDED[letters])))
    if letters == "SSS":
        return lambda moment: f"{moment.microsecond // 1000:03d}"
    hint = " (a week-based year; the calendar's is 'yyyy')" if letters[0] == "Y" else ""
    raise PrefixError(f"the timestamp pattern {letters!r} is not supported{hint}")
