"""Scanner for the text of one parameter.

The scanner moves forward only, so parsing takes linear time. The exception is a condition whose
name refers to several relations: it is parsed once for each of them.
"""

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
    """A position in a parameter's text."""

    def __init__(self, parameter: str, text: str) -> None:
        self.parameter = parameter
        self._text = text
        #: The number of characters that are consumed.
        self.place = 0

    @property
    def at_end(self) -> bool:
        """True if the whole text is consumed."""
        return self.place == len(self._text)

    def error(self, expected: str) -> ProblemError:
        """Create the problem that the text here is not the expected one."""
        found = "the end" if self.at_end else shown(self._text[self.place : self.place + 20])
        return fault(
            "PGRST100",
            self.parameter,
            f"at character {self.place + 1}, {expected} should be in place of {found}",
        )

    def next_is(self, *options: str) -> bool:
        """Return True if the rest starts with one of these strings."""
        return self._text.startswith(options, self.place)

    def take(self, literal: str) -> bool:
        """Consume the literal if the rest starts with it; return False otherwise."""
        found = self.next_is(literal)
        if found:
            self.place += len(literal)
        return found

    def expect(self, literal: str) -> None:
        """Consume the literal; raise PGRST100 if the rest does not start with it."""
        if not self.take(literal):
            raise self.error(shown(literal))

    def expect_end(self) -> None:
        """Raise PGRST100 unless the whole text is consumed."""
        if not self.at_end:
            raise self.error("the end")

    def looks_at(self, pattern: re.Pattern[str]) -> bool:
        """Return True if the pattern matches here."""
        return pattern.match(self._text, self.place) is not None

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Consume and return the text that the pattern matches here, if any."""
        found = self.take_match(pattern)
        return None if found is None else found[0]

    def take_match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Like `match`, but return the match with its groups."""
        found = pattern.match(self._text, self.place)
        if found is not None:
            self.place = found.end()
        return found

    def skip_spaces(self) -> None:
        """Consume blanks."""
        self.match(_SPACES)

    def bracket(self, literal: str) -> None:
        """Consume a required bracket and the blanks around it."""
        self.skip_spaces()
        self.expect(literal)
        self.skip_spaces()

    def rest(self) -> str:
        """Consume and return the rest, unchanged."""
        start, self.place = self.place, len(self._text)
        return self._text[start:]

    def name(self) -> str:
        """Consume a name: letters, digits, `_`, `$`, `-` and inner spaces, or a quoted string."""
        self.skip_spaces()
        quoted = self._quoted()
        if quoted is not None:
            return quoted
        found = self.match(_IDENTIFIER)
        if found is None:
            raise self.error("a name")
        return found.strip()

    def element(self) -> tuple[str, bool]:
        """Consume a value before `,` or `)`; return it and whether it was in double quotes.

        Quotes that do not enclose the whole value are part of it.
        """
        start = self.place
        quoted = self._quoted()
        if quoted is not None and (self.at_end or self.next_is(",", ")")):
            return quoted, True
        self.place = start
        return self.match(_BARE) or "", False

    def grouped_value(self) -> str:
        """Consume a value inside `and=(…)`: quoted, in braces, or up to the next `,` or `)`."""
        if self.next_is("{"):
            found = self.match(_BRACED)
            if found is not None:
                return found
        return self.element()[0]

    def bracketed(self) -> str:
        """Consume a balanced text up to the next `,` or `)`, or the content of brackets."""
        if self.take("("):
            found = self._balanced(")")
            self.expect(")")
            return found
        return self._balanced(",)")

    def is_last_member(self) -> bool:
        """Return True if the group's member that begins here is the last."""
        start = self.place
        self._balanced(",)")
        is_last = not self.next_is(",")
        self.place = start
        return is_last

    def _balanced(self, ends: str) -> str:
        start, depth = self.place, 0
        while not self.at_end:
            character = self._text[self.place]
            if depth == 0 and character in ends:
                break
            if character == '"':
                if self._quoted() is None:
                    self.rest()
                continue
            depth += {"(": 1, ")": -1}.get(character, 0)
            self.place += 1
        return self._text[start : self.place]

    def _quoted(self) -> str | None:
        found = _QUOTED.match(self._text, self.place)
        if found is None:
            return None
        self.place = found.end()
        return _ESCAPED.sub(r"\1", found[1])
