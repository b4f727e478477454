"""Postgres's text search configurations, and a syntax check for `to_tsquery`."""

from __future__ import annotations

import re
from typing import Final

#: The configurations in every supported release of Postgres.
CONFIGURATIONS: Final = frozenset({
    "simple", "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish",
    "french", "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian",
    "lithuanian", "nepali", "norwegian", "portuguese", "romanian", "russian", "serbian", "spanish",
    "swedish", "tamil", "turkish", "yiddish",
})  # fmt: skip

_MAX_WORD = 500  # characters; Postgres allows 2,046 bytes
_MAX_DISTANCE = 16_384  # words
_MAX_BRACKETS = 50  # Postgres's own limit depends on its stack
# White space in every locale of Postgres; further characters depend on the locale.
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
    """Check that `to_tsquery` accepts the text: `fat & (rat | !cat:*) <-> 'old man'`.

    The check is slightly stricter than Postgres: it refuses backslashes and non-ASCII spaces.

    Raises:
        ValueError: the text is not a text search query.
    """
    place = depth = 0
    end = len(text.rstrip(_SPACE))
    operand_due = True
    while place < end:
        token = _TOKEN.match(text, place)
        if token is None or operand_due != (token.lastgroup in {"before", "word"}):
            raise ValueError(
                f"is not a text search query, such as fat & rat, from character {place + 1}"
            )
        operand_due = token.lastgroup in {"before", "joint", "distance"}
        depth += {"(": 1, ")": -1}.get(token[0].strip(), 0)
        _check_sizes(token, depth)
        place = token.end()
    if depth or (operand_due and text.strip(_SPACE)):
        raise ValueError("is not a text search query: it ends too early")


def _check_sizes(token: re.Match[str], depth: int) -> None:
    if not 0 <= depth <= _MAX_BRACKETS:
        raise ValueError("is not a text search query: its brackets are unbalanced or too deep")
    if int(token["distance"] or 0) > _MAX_DISTANCE or len(token["word"] or "") > _MAX_WORD:
        raise ValueError("is not a text search query: a word or distance is too long")
