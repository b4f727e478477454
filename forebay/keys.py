"""Reads the key in a request's path, for reads and writes alike."""

from __future__ import annotations

from urllib.parse import unquote

from forebay.command import KeyValue
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec


def decode_segment(text: str) -> str:
    """Percent-decode a segment of a path.

    Bytes that are not UTF-8 become lone surrogates, which no key has. Replaced by U+FFFD, different
    bytes would name one item.
    """
    return unquote(text, errors="surrogateescape")


def read_key(spec: ResourceSpec, text: str) -> KeyValue:
    """The key of a path segment that is already percent-decoded.

    Raises:
        ProblemError: the text is not a valid key of that resource.
    """
    if not _is_utf8(text):
        detail = "the key in the path is not UTF-8; encode its text as UTF-8, then with %"
        raise ProblemError(Problem("bad_key", detail))
    try:
        return spec.body.read_key(text)
    except ValueError as exc:
        raise ProblemError(
            Problem("bad_key", f"{text!a} is not a valid key of {spec.path}: {exc}")
        ) from None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
