"""The keys of delivered objects: evaluated prefixes and object names.

The rules are AWS's "Understand custom prefixes for Amazon S3 objects" and "Configure Amazon S3
object name format" (Data Firehose developer guide).
"""

import re
import uuid
from datetime import datetime

EVALUATED_PREFIX_MAX_CHARS = 512  # AWS: neither prefix may be longer once evaluated
RANDOM_STRING_CHARS = 11  # AWS: firehose:random-string
# AWS appends it to a prefix without a timestamp expression.
DEFAULT_TIME_EXPRESSION = "!{timestamp:yyyy/MM/dd/HH/}"

_EXPRESSION = re.compile(r"!\{([A-Za-z]+):([^}]*)\}")
# A java.time DateTimeFormatter pattern: fields, quoted literals, reserved characters. Two quotes
# are one literal quote, inside and outside of a quoted literal.
_TOKEN = re.compile(
    r"(?P<field>([A-Za-z])\2*)|'(?P<quoted>(?:[^']|'')++)'|''|(?P<unsupported>['\[\]{}#])"
)
# Fields and their strftime equivalents. strftime's names are English unless the program sets a
# locale, which this program does not.
_FIELDS = dict(
    re.findall(
        r"(\w+)=(%\w)",
        "yyyy=%Y uuuu=%Y yy=%y uu=%y MM=%m MMM=%b MMMM=%B dd=%d DDD=%j HH=%H hh=%I mm=%M ss=%S "
        "a=%p E=%a EE=%a EEE=%a EEEE=%A",
    )
)
_UNPADDED = dict(re.findall(r"(\w)=(%\w)", "y=%Y u=%Y M=%m d=%d D=%j H=%H h=%I m=%M s=%S"))


class PrefixError(ValueError):
    """AWS refuses the prefix, or this server can't evaluate it; the message gives the reason."""


def evaluate_prefix(prefix: str, moment: datetime) -> str:
    """Evaluate the expressions in `prefix` at `moment` (an aware UTC time).

    Raises:
        PrefixError: Firehose would not have accepted the prefix for its data.
    """
    if "!{" in _EXPRESSION.sub(" ", prefix):
        raise PrefixError(f"'!{{' outside a !{{namespace:value}} expression in {prefix!r}")
    if all(namespace != "timestamp" for namespace, _ in _EXPRESSION.findall(prefix)):
        prefix += DEFAULT_TIME_EXPRESSION
    return _EXPRESSION.sub(lambda match: _evaluate(match[1], match[2], moment), prefix)


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


def _evaluate(namespace: str, value: str, moment: datetime) -> str:
    if namespace == "timestamp":
        return _TOKEN.sub(lambda token: _evaluate_token(token, moment), value)
    if (namespace, value) == ("firehose", "random-string"):
        # AWS: each occurrence in a prefix is a new random string.
        return str(uuid.uuid4())[:RANDOM_STRING_CHARS]
    raise PrefixError(f"!{{{namespace}:{value}}} can't be evaluated in this server's S3 prefixes")


def _evaluate_token(token: re.Match[str], moment: datetime) -> str:
    if token["field"]:
        return _evaluate_field(token["field"], moment)
    if token["unsupported"] == "'":
        raise PrefixError(f"a quote is not closed in the timestamp pattern {token.string!r}")
    if token["unsupported"]:
        raise PrefixError(
            f"{token[0]!r} is not supported in the timestamp pattern {token.string!r}"
        )
    return (token["quoted"] or "''").replace("''", "'")


def _evaluate_field(letters: str, moment: datetime) -> str:
    if letters in _FIELDS:
        return moment.strftime(_FIELDS[letters])
    if letters in _UNPADDED:
        return str(int(moment.strftime(_UNPADDED[letters])))
    if letters == "SSS":
        return f"{moment.microsecond // 1000:03d}"
    hint = " (a week-based year; the calendar's is 'yyyy')" if letters[0] == "Y" else ""
    raise PrefixError(f"the timestamp pattern {letters!r} is not supported{hint}")
