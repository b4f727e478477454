"""Walks through the text of one parameter; every step forward is final, so none is quadratic."""

from __future__ import annotations

import re

from forebay.problem import ProblemError
from forebay.query.faults import fault, shown

_SPACES = re.compile(r"[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_IDENTIFIER = re.compile(r"[\w $]+(?:-(?!>)[\w $]+)*")
_BARE = re.compile(r"[^,)]*")
_BRACED = re.compile(r"\{[^{}]*\}")


class Scanner:
    """A place in a parameter's text."""

    def __init__(self, parameter: str, text: str) -> None:
        self.parameter = parameter
        self._text = text
        self._at = 0

    @property
    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._text)

    def error(self, expected: str) -> ProblemError:
        """The problem that something else was expected here."""
        found = "the end" if self.at_end else shown(self._text[self._at : self._at + 20])
        return fault(
            "PGRST100",
            self.parameter,
            f"at character {self._at + 1}, {expected} should be in place of {found}",
        )

    def next_is(self, *options: str) -> bool:
        """Whether one of these comes next."""
        return self._text.startswith(options, self._at)

    def take(self, literal: str) -> bool:
        """Steps over it if it comes next."""
        found = self.next_is(literal)
        if found:
            self._at += len(literal)
        return found

    def expect(self, literal: str) -> None:
        """Steps over what must come next."""
        if not self.take(literal):
            raise self.error(shown(literal))

    def expect_end(self) -> None:
        """Makes sure that nothing is left."""
        if not self.at_end:
            raise self.error("the end")

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Steps over what the pattern matches here."""
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def skip_spaces(self) -> None:
        """Steps over blanks, which may stand around names and brackets."""
        self.match(_SPACES)

    def bracket(self, literal: str) -> None:
        """Steps over a bracket or comma and the blanks around it."""
        self.skip_spaces()
        self.expect(literal)
        self.skip_spaces()

    def rest(self) -> str:
        """All that is left, as it is."""
        start, self._at = self._at, len(self._text)
        return self._text[start:]

    def name(self) -> str:
        """A name: letters, digits, `_`, `$`, `-` and inner spaces; or anything in double quotes."""
        self.skip_spaces()
        quoted = self._quoted()
        if quoted is not None:
            return quoted
        found = self.match(_IDENTIFIER)
        if found is None:
            raise self.error("a name")
        return found.strip()

    def element(self) -> tuple[str, bool]:
        """A value that ends with `,` or `)`, and whether it was in double quotes.

        Quotes count only if they are around all of it; otherwise they are part of the value.
        """
        start = self._at
        quoted = self._quoted()
        if quoted is not None and (self.at_end or self.next_is(",", ")")):
            return quoted, True
        self._at = start
        return self.match(_BARE) or "", False

    def grouped_value(self) -> str:
        """A value inside `and=(…)`: in double quotes, in braces, or up to the next `,` or `)`."""
        if self.next_is("{"):
            found = self.match(_BRACED)
            if found is not None:
                return found
        return self.element()[0]

    def _quoted(self) -> str | None:
        found = _QUOTED.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return _ESCAPED.sub(r"\1", found[1])
