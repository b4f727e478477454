"""Read and change a JSON document in place, at a JSON Pointer (RFC 6901).

Limited to the needs of a rule: the document is an object and stays an object.
"""

from __future__ import annotations

from typing import Any


class PatchError(Exception):
    """The patch doesn't fit this document; the message names the pointer."""


def get(document: Any, pointer: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value at a pointer.

    Raises:
        PatchError: there is no such value.
    """
    value = document
    for token in _split_pointer(pointer):
        value = _get_child(value, token, pointer)
    return value


def has(document: Any, pointer: str) -> bool:  # noqa: ANN401 - any JSON value
    """Return whether there is a value, possibly null, at a pointer."""
    try:
        get(document, pointer)
    except PatchError:
        return False
    return True


def put(document: Any, pointer: str, value: object) -> None:  # noqa: ANN401 - any JSON value
    """Set a member of an object, or replace an element of an array.

    Raises:
        PatchError: the containing object or array does not exist, or the array lacks the element.
    """
    parent, token = _find_parent(document, pointer)
    if isinstance(parent, dict):
        parent[token] = value
    else:
        parent[_parse_index(parent, token, pointer)] = value


def remove(document: Any, pointer: str) -> Any:  # noqa: ANN401 - any JSON value
    """Remove a member or an element, and return it.

    Raises:
        PatchError: there is no such value.
    """
    parent, token = _find_parent(document, pointer)
    value = _get_child(parent, token, pointer)
    if isinstance(parent, dict):
        del parent[token]
    else:
        del parent[_parse_index(parent, token, pointer)]
    return value


def _find_parent(document: Any, pointer: str) -> tuple[dict[str, Any] | list[Any], str]:  # noqa: ANN401
    *path, last = _split_pointer(pointer)
    parent = document
    for token in path:
        parent = _get_child(parent, token, pointer)
    if not isinstance(parent, dict | list):
        raise PatchError(f"{pointer}: its parent is neither an object nor an array")
    return parent, last


def _get_child(value: Any, token: str, pointer: str) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict) and token in value:
        return value[token]
    if isinstance(value, list):
        return value[_parse_index(value, token, pointer)]
    raise PatchError(f"{pointer}: there is no member {token!r}")


def _parse_index(array: list[Any], token: str, pointer: str) -> int:
    # RFC 6901 §4: digits without a leading zero.
    if not token.isdecimal() or str(int(token)) != token or int(token) >= len(array):
        raise PatchError(f"{pointer}: the array has no element {token!r}")
    return int(token)


def _split_pointer(pointer: str) -> list[str]:
    """Return the pointer's parts, unescaped; the pointer of the whole document is not supported."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
