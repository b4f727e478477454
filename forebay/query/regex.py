"""Cost check for Postgres regular expressions.

Postgres matches most expressions in one pass, with memory that depends on the expression only.
There are three exceptions: back-references cause unbounded backtracking, lookahead and lookbehind
are evaluated at each position of a value, and nested repetitions are expanded at compile time
(PostgreSQL documentation, "POSIX Regular Expressions"; src/backend/regex/README).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: Characters.
MAX_REGEX_LENGTH: Final = 1_000
#: Atoms after repetitions are expanded. Parts that may be empty count by the square of their
#: number, because each of them can follow each other.
MAX_REGEX_ATOMS: Final = 1_000
_MAX_DEPTH: Final = 50
_MAX_REPEAT: Final = 255  # Postgres refuses a greater number

_REPEAT = re.compile(r"\{(\d{1,9})(,?)(\d{0,9})\}\??|([*+?])\??")
_LOOKS = ("(?=", "(?!", "(?<=", "(?<!")
#: Options at the beginning that set case sensitivity and newline matching. Others change syntax.
_OPTIONS = re.compile(r"\(\?[cimnpstw]+\)")
_CLASS = re.compile(r"\[[:.=].*?[:.=]\]", re.DOTALL)


def check_regex(text: str) -> None:
    """Check that a regular expression is cheap to compile and to match, for values of any length.

    The function does not check the syntax: only Postgres can.

    Raises:
        ValueError: the expression may cost too much; the message states the reason.
    """
    if len(text) > MAX_REGEX_LENGTH:
        raise ValueError(f"has more than {MAX_REGEX_LENGTH:,} characters")
    if text.startswith("***"):
        raise ValueError("begins with ***, which changes its syntax")
    size = _Reader(text).read()
    if size.atoms > MAX_REGEX_ATOMS:
        raise ValueError(
            f"has more than {MAX_REGEX_ATOMS:,} atoms after its repetitions are expanded"
        )


@dataclass(frozen=True, slots=True)
class _Size:
    """The size of a part of an expression after compilation."""

    atoms: int
    #: Parts inside it that can be omitted; 0 if the whole can't be empty.
    gaps: int = 0

    @property
    def may_be_empty(self) -> bool:
        return self.gaps > 0


class _Reader:
    """Parser that reads an expression once, from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        options = _OPTIONS.match(text)
        self._at = options.end() if options else 0

    def read(self) -> _Size:
        """Return the size of the whole expression.

        An unmatched bracket is skipped; Postgres refuses it later.
        """
        size = self._read_alternatives(0)
        while self._at < len(self._text):
            self._at += 1
            more = self._read_alternatives(0)
            size = _Size(size.atoms + more.atoms)
        return size

    def _read_alternatives(self, depth: int) -> _Size:
        if depth > _MAX_DEPTH:
            raise ValueError(f"nests brackets more than {_MAX_DEPTH} levels deep")
        branches = [self._read_branch(depth)]
        while self._take("|"):
            branches.append(self._read_branch(depth))
        return _Size(sum(b.atoms for b in branches), sum(b.gaps for b in branches))

    def _read_branch(self, depth: int) -> _Size:
        pieces: list[_Size] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            pieces.append(self._read_repetitions(self._read_atom(depth)))
        gap_count = sum(piece.gaps for piece in pieces)
        atoms = sum(piece.atoms for piece in pieces) + _square(gap_count)
        is_empty = all(piece.may_be_empty for piece in pieces)
        return _Size(atoms, max(gap_count, 1) if is_empty else 0)

    def _read_atom(self, depth: int) -> _Size:
        char = self._text[self._at]
        if char == "(":
            return self._read_group(depth)
        if char == "[":
            self._skip_bracket()
        elif char == "\\":
            self._skip_escape()
        else:
            self._at += 1
        return _Size(1)

    def _read_group(self, depth: int) -> _Size:
        if self._text.startswith(_LOOKS, self._at):
            raise ValueError("contains a lookaround, which is tried at each position of a value")
        if self._take("(?:"):
            pass
        elif self._text.startswith("(?", self._at):
            raise ValueError("contains options or comments in (?…), which change its syntax")
        else:
            self._at += 1
        size = self._read_alternatives(depth + 1)
        self._take(")")
        return size

    def _skip_bracket(self) -> None:
        self._at += 1
        self._take("^")
        self._take("]")
        while self._at < len(self._text) and not self._take("]"):
            match = _CLASS.match(self._text, self._at)
            self._at = match.end() if match else self._at + (2 if self._is_next("\\") else 1)

    def _skip_escape(self) -> None:
        following = self._text[self._at + 1 : self._at + 2]
        if following.isdigit() and following != "0":
            raise ValueError("contains a back reference")
        self._at += 2

    def _read_repetitions(self, size: _Size) -> _Size:
        while (match := _REPEAT.match(self._text, self._at)) is not None:
            self._at = match.end()
            size = _repeat(size, match)
        return size

    def _is_next(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _take(self, text: str) -> bool:
        if self._is_next(text):
            self._at += len(text)
            return True
        return False


def _repeat(size: _Size, match: re.Match[str]) -> _Size:
    if match[4] is not None:
        minimum, times = (0, 1) if match[4] in "*?" else (1, 1)
    else:
        minimum = int(match[1])
        maximum = int(match[3]) if match[3] else minimum + (1 if match[2] else 0)
        times = min(max(minimum, maximum, 1), _MAX_REPEAT)
    if not size.may_be_empty:
        return _Size(size.atoms * times, 1 if minimum == 0 else 0)
    gaps = size.gaps * times
    return _Size(size.atoms * times + (_square(gaps) if times > 1 else 0), gaps)


def _square(gaps: int) -> int:
    """Return the number of transitions between parts that can be omitted."""
    return gaps * gaps if gaps > 1 else 0
