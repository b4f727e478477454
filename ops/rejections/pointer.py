"""Changes to a JSON document at a JSON Pointer (RFC 6901), in place.

Only what a rule needs: the document is a command, so its top is an object and stays one.
"""

from __future__ import annotations

from typing import Any


class PatchError(Exception):
    """The patch doesn't fit this document; the message names the pointer."""


def get(document: Any, pointer: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value there.

    Raises:
        PatchError: there is none.
    """
    value = document
    for token in _tokens(pointer):
        value = _step(value, token, pointer)
    return value


def has(document: Any, pointer: str) -> bool:  # noqa: ANN401 - any JSON value
    """Whether there is a value, be it null."""
    try:
        get(document, pointer)
    except PatchError:
        return False
    return True


def put(document: Any, pointer: str, value: object) -> None:  # noqa: ANN401 - any JSON value
    """Sets a member, or the element of an array that is there already.

    Raises:
        PatchError: what should hold it is not there, or holds nothing.
    """
    parent, token = _parent(document, pointer)
    if isinstance(parent, dict):
        parent[token] = value
    else:
        parent[_index(parent, token, pointer)] = value


def remove(document: Any, pointer: str) -> Any:  # noqa: ANN401 - any JSON value
    """Takes out a member or an element, and gives it.

    Raises:
        PatchError: there is none.
    """
    parent, token = _parent(document, pointer)
    found = _step(parent, token, pointer)
    if isinstance(parent, dict):
        del parent[token]
    else:
        del parent[_index(parent, token, pointer)]
    return found


def _parent(document: Any, pointer: str) -> tuple[dict[str, Any] | list[Any], str]:  # noqa: ANN401
    *path, last = _tokens(pointer)
    parent = document
    for token in path:
        parent = _step(parent, token, pointer)
    if not isinstance(parent, dict | list):
        raise PatchError(f"{pointer}: what should hold it is neither an object nor an array")
    return parent, last


def _step(value: Any, token: str, pointer: str) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict) and token in value:
        return value[token]
    if isinstance(value, list):
        return value[_index(value, token, pointer)]
    raise PatchError(f"{pointer}: there is no {token!r}")


def _index(array: list[Any], token: str, pointer: str) -> int:
    # RFC 6901 §4: digits without a leading zero.
    if not token.isdecimal() or str(int(token)) != token or int(token) >= len(array):
        raise PatchError(f"{pointer}: the array has no element {token!r}")
    return int(token)


def _tokens(pointer: str) -> list[str]:
    """The pointer's parts, unescaped; a rule never names the whole document."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
