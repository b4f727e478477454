"""Reads the key in a request's path, for reads and writes alike."""

from __future__ import annotations

from forebay.command import KeyValue
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec


def read_key(spec: ResourceSpec, text: str) -> KeyValue:
    """The key of a path segment that is already percent-decoded.

    Raises:
        ProblemError: the text is not a valid key of that resource.
    """
    try:
        return spec.body.read_key(text)
    except ValueError as exc:
        raise ProblemError(
            Problem("bad_key", f"{text!a} is not a valid key of {spec.path}: {exc}")
        ) from None
