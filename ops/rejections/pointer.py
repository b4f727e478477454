"""Read and change a JSON document in place, at a JSON Pointer (RFC 6901)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jsonpointer import EndOfList, JsonPointer, JsonPointerException


class PatchError(Exception):
    """The patch doesn't fit this document; the message names the pointer."""


def get(document: Any, pointer: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value at a pointer.

    Raises:
        PatchError: there is no such value.
    """
    with _name_in_errors(pointer):
        value = JsonPointer(pointer).resolve(document)
        if isinstance(value, EndOfList):
            raise JsonPointerException("the end of an array has no value")
        return value


def has(document: Any, pointer: str) -> bool:  # noqa: ANN401 - any JSON value
    """Return whether there is a value, possibly null, at a pointer."""
    try:
        get(document, pointer)
    except PatchError:
        return False
    return True


def put(document: Any, pointer: str, value: object) -> None:  # noqa: ANN401 - any JSON value
    """Set a member of an object, replace an element of an array, or append one (`-`).

    Raises:
        PatchError: the containing object or array does not exist, or the array lacks the element.
    """
    with _name_in_errors(pointer):
        JsonPointer(pointer).set(document, value)


def remove(document: Any, pointer: str) -> Any:  # noqa: ANN401 - any JSON value
    """Remove a member or an element, and return it.

    Raises:
        PatchError: there is no such value.
    """
    value = get(document, pointer)
    parent, place = JsonPointer(pointer).to_last(document)
    del parent[place]
    return value


@contextmanager
def _name_in_errors(pointer: str) -> Iterator[None]:
    try:
        yield
    except JsonPointerException as exc:
        raise PatchError(f"{pointer}: {exc}") from None
