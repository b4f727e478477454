"""What is wrong with a query, as problems that name the parameter and what it takes."""

from __future__ import annotations

from collections.abc import Iterable

from forebay.problem import Problem, ProblemError

_SHOWN = 80  # characters of a client's text, for the eye


def fault(code: str, parameter: str, detail: str, hint: str | None = None) -> ProblemError:
    """A problem with one parameter."""
    return ProblemError(Problem(code, f"{parameter}: {detail}", hint=hint))


def shown(text: str) -> str:
    """A client's text as a message may have it: quoted, short and always encodable."""
    cut = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return repr(cut.encode(errors="backslashreplace").decode())


def listed(words: Iterable[str]) -> str:
    """Words for a message."""
    return ", ".join(words)
