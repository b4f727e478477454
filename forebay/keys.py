"""Reads the key that a path names, for reads and writes alike."""

from __future__ import annotations

from forebay.command import KeyValue
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec


def read_key(spec: ResourceSpec, text: str) -> KeyValue:
    """The key that a path segment, percent-decoded already, stands for.

    Raises:
        ProblemError: it can be no key of that resource.
    """
    try:
        return spec.body.read_key(text)
    except ValueError as exc:
        raise ProblemError(
            Problem("bad_key", f"{text!a} is no key of {spec.path}: {exc}")
        ) from None
