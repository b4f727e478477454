"""Entity tags: makes the tag of an item, and compares tags with `If-None-Match`."""

from __future__ import annotations

import hashlib
import re

from forebay.ids import COMMAND_ID

_DIGEST_DIGITS = 16
_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')
_VERSION = rf"({COMMAND_ID.pattern})(?:-[0-9a-f]{{{_DIGEST_DIGITS}}})?"
# Weak tags too: a CDN that compresses an answer makes its tag weak.
_SHOWN_VERSION = re.compile(
    rf'(?:W/)?"{_VERSION}"|{_VERSION}|[^\s,?#]*/commands/({COMMAND_ID.pattern})'
)


def item_tag(version: str, content_type: str, text: str) -> str:
    """The strong entity tag of an item: equal only for equal bytes of one media type.

    The version comes first, so that writes can use the tag. The version alone is not enough: a
    replay of an outdated row, or another release, can change the item under the same version.
    """
    digest = hashlib.sha256(f"{content_type}\n{text}".encode()).hexdigest()
    return f'"{version}-{digest[:_DIGEST_DIGITS]}"'


def version_of(shown: str) -> str | None:
    """The version in a header's value; None if it has none.

    Args:
        shown: a command id, an item's entity tag, or the path of a command's status.
    """
    match = _SHOWN_VERSION.fullmatch(shown.strip())
    return (match[1] or match[2] or match[3]) if match else None


def is_known(entity_tag: str, if_none_match: str | None) -> bool:
    """Return whether `If-None-Match` lists the tag, by weak comparison (RFC 9110 §13.1.2)."""
    if if_none_match is None:
        return False
    opaque = entity_tag.removeprefix("W/")
    return if_none_match.strip() == "*" or opaque in _ENTITY_TAG.findall(if_none_match)
