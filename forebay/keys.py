"""Reads the key that a path names, for reads and writes alike."""

from __future__ import annotations

from urllib.parse import unquote

from forebay.command import KeyValue
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec


def read_key(spec: ResourceSpec, segment: str) -> KeyValue:
    """The key of a path segment, percent-encoded or not (keys hold no `%`).

    Raises:
        ProblemError: it can be no key of that resource.
    """
    try:
        return spec.body.read_key(unquote(segment))
    except ValueError as exc:
        raise ProblemError(
            Problem("bad_key", f"{segment!a} is no key of {spec.path}: {exc}")
        ) from None
