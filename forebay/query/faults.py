"""Problems that name an invalid query parameter and its allowed values."""

from __future__ import annotations

from collections.abc import Iterable

from forebay.problem import Problem, ProblemError

_SHOWN = 80  # characters of a client's text in a message


def fault(code: str, parameter: str, detail: str, hint: str | None = None) -> ProblemError:
    """Create a problem with one parameter."""
    return ProblemError(Problem(code, f"{parameter}: {detail}", hint=hint))


def shown(text: str) -> str:
    """Return a client's text for a message: quoted, cut, and encodable as UTF-8."""
    cut = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return repr(cut.encode(errors="backslashreplace").decode())


def listed(words: Iterable[str]) -> str:
    """Join words for a message."""
    return ", ".join(words)
