"""What Postgres's text search takes: its configurations and the language of `to_tsquery`."""

from __future__ import annotations

import re
from typing import Final

#: The configurations that every supported release of Postgres has.
CONFIGURATIONS: Final = frozenset({
    "simple", "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish",
    "french", "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian",
    "lithuanian", "nepali", "norwegian", "portuguese", "romanian", "russian", "serbian", "spanish",
    "swedish", "tamil", "turkish", "yiddish",
})  # fmt: skip

_MAX_WORD = 500  # characters; Postgres takes 2,046 bytes
_MAX_DISTANCE = 16_384  # words
_MAX_BRACKETS = 50  # Postgres has a limit of its own, which depends on its stack
# What Postgres takes for space everywhere; of others it depends on its locale.
_SPACE = " \t\n\r\f\v"
_TOKEN = re.compile(
    rf"""[{_SPACE}]*(?:
        (?P<before>[!(])
      | (?P<after>\))
      | (?P<joint>[&|] | <-> | <(?P<distance>[0-9]{{1,5}})>)
      | (?P<word>(?:[^\s&|!():<>*'\\]+ | '(?:[^'\\]|'')+') (?::[*a-dA-D]+)?)
    )[{_SPACE}]*""",
    re.VERBOSE,
)


def check_tsquery(text: str) -> None:
    """Makes sure that `to_tsquery` can read the text: `fat & (rat | !cat:*) <-> 'old man'`.

    It takes a little less than Postgres does (no backslashes, no spaces but ASCII's), never more.

    Raises:
        ValueError: it can't be read.
    """
    at = depth = 0
    end = len(text.rstrip(_SPACE))
    operand_due = True
    while at < end:
        token = _TOKEN.match(text, at)
        if token is None or operand_due != (token.lastgroup in {"before", "word"}):
            raise ValueError(f"is no text search query, such as fat & rat, from character {at + 1}")
        operand_due = token.lastgroup in {"before", "joint", "distance"}
        depth += {"(": 1, ")": -1}.get(token[0].strip(), 0)
        _check_sizes(token, depth)
        at = token.end()
    if depth or (operand_due and text.strip(_SPACE)):
        raise ValueError("is no text search query: it ends too early")


def _check_sizes(token: re.Match[str], depth: int) -> None:
    if not 0 <= depth <= _MAX_BRACKETS:
        raise ValueError("is no text search query: its brackets do not match, or are too many")
    if int(token["distance"] or 0) > _MAX_DISTANCE or len(token["word"] or "") > _MAX_WORD:
        raise ValueError("is a text search query with too long a word or distance")
