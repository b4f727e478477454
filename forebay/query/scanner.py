"""Scanner for the text of one parameter.

The scanner moves forward only, so parsing takes linear time. The exception is a condition on
several relations of one name: it is parsed once for each of them.
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
        actual = "the end" if self.at_end else shown(self._text[self.place : self.place + 20])
        return fault(
            "PGRST100",
            self.parameter,
            f"at character {self.place + 1}, {expected} is expected, not {actual}",
        )

    def next_is(self, *options: str) -> bool:
        """Return True if the rest starts with one of these strings."""
        return self._text.startswith(options, self.place)

    def take(self, literal: str) -> bool:
        """Consume the literal if the rest starts with it; return False otherwise."""
        is_next = self.next_is(literal)
        if is_next:
            self.place += len(literal)
        return is_next

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
        match = self.take_match(pattern)
        return None if match is None else match[0]

    def take_match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Like `match`, but return the match with its groups."""
        match = pattern.match(self._text, self.place)
        if match is not None:
            self.place = match.end()
        return match

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
        quoted = self._take_quoted()
        if quoted is not None:
            return quoted
        text = self.match(_IDENTIFIER)
        if text is None:
            raise self.error("a name")
        return text.strip()

    def element(self) -> tuple[str, bool]:
        """Consume a value before `,` or `)`; return it and whether it was in double quotes.

        Quotes that do not enclose the whole value are part of it.
        """
        start = self.place
        quoted = self._take_quoted()
        if quoted is not None and (self.at_end or self.next_is(",", ")")):
            return quoted, True
        self.place = start
        return self.match(_BARE) or "", False

    def grouped_value(self) -> str:
        """Consume a value inside `and=(…)`: quoted, in braces, or up to the next `,` or `)`."""
        if self.next_is("{"):
            text = self.match(_BRACED)
            if text is not None:
                return text
        return self.element()[0]

    def bracketed(self) -> str:
        """Consume a balanced text up to the next `,` or `)`, or the content of brackets."""
        if self.take("("):
            text = self._take_balanced(")")
            self.expect(")")
            return text
        return self._take_balanced(",)")

    def is_last_member(self) -> bool:
        """Return True if the group's member that begins here is the last."""
        start = self.place
        self._take_balanced(",)")
        is_last = not self.next_is(",")
        self.place = start
        return is_last

    def _take_balanced(self, ends: str) -> str:
        start, depth = self.place, 0
        while not self.at_end:
            character = self._text[self.place]
            if depth == 0 and character in ends:
                break
            if character == '"':
                if self._take_quoted() is None:
                    self.rest()
                continue
            depth += {"(": 1, ")": -1}.get(character, 0)
            self.place += 1
        return self._text[start : self.place]

    def _take_quoted(self) -> str | None:
        match = _QUOTED.match(self._text, self.place)
        if match is None:
            return None
        self.place = match.end()
        return _ESCAPED.sub(r"\1", match[1])
