"""Entity tags: makes the tag of an item, and compares tags with `If-None-Match` and `If-Match`.

An entity tag is `"<state tag>-<digest of the bytes>"`. The state tag names the state of the item in
the tables: the id of the command that made the row, or, if patches have changed the row since, the
greatest id among them and a digest of the ids by field. Apply compares the state tag (a command's
condition); the read function alone knows the bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from forebay.ids import COMMAND_ID
from forebay.keys import decode_segment

#: The tag in `If-Match` that every existing item matches (RFC 9110 §13.1.1).
EXISTS: Final = "*"

_DIGEST_DIGITS = 16
_DIGEST = rf"[0-9a-f]{{{_DIGEST_DIGITS}}}"
_STATE_TAG = re.compile(rf"(?:W/)?\"({COMMAND_ID.pattern}(?:\.{_DIGEST})?)(?:-{_DIGEST})?\"")
_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')
_VERSION = rf"({COMMAND_ID.pattern})(?:\.{_DIGEST})?(?:-{_DIGEST})?"
#: The path of a command's status, with its resource, key and id.
_ADDRESS = re.compile(rf"(?:[^\s?#]*/)?([^/\s?#]+)/([^/\s?#]+)/commands/({COMMAND_ID.pattern})")
# Weak tags too: a CDN that compresses an answer makes its tag weak.
_SHOWN_VERSION = re.compile(
    rf'(?:W/)?"{_VERSION}"|{_VERSION}|[^\s,?#]*/commands/({COMMAND_ID.pattern})'
)


def build_item_tag(state_tag: str, content_type: str, text: str) -> str:
    """The strong entity tag of an item: equal only for equal bytes of one media type.

    The state tag comes first, so that writes can use the entity tag. It alone is not enough: a
    replay of an outdated row, or another release, can change the item's bytes.
    """
    digest = _digest(f"{content_type}\n{text}")
    return f'"{state_tag}-{digest}"'


def make_state_tag(base_id: str, fields: Mapping[str, str]) -> str:
    """The state tag of an item.

    Args:
        base_id: the id of the command that made the row.
        fields: by field, the id of the patch that set the row's value; empty if no patch has
            changed the row.
    """
    if not fields:
        return base_id
    ids = "".join([f"\n{name} {command_id}" for name, command_id in sorted(fields.items())])
    return f"{max(base_id, *fields.values())}.{_digest(base_id + ids)}"


def parse_state_tag(entity_tag: str) -> str | None:
    """The state tag in an entity tag; None if the text is no entity tag of an item.

    Weak tags too, although RFC 9110 §13.1.1 compares strongly: a CDN that compresses an answer
    makes its tag weak, and the state tag does not depend on the bytes.
    """
    match = _STATE_TAG.fullmatch(entity_tag.strip())
    return match[1] if match else None


def does_tag_match(expected: str, state_tag: str) -> bool:
    """Return whether a condition's tag matches an item's state tag.

    A tag that is a command's id matches as long as that command is the item's newest, also after
    an older patch of another field: the client knows the id of its own write, but not the state
    that the write led to.
    """
    return expected in {EXISTS, state_tag, state_tag.partition(".")[0]}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_DIGITS]


def parse_version(shown: str) -> str | None:
    """The version in a header's value; None if it has none.

    Args:
        shown: a command id, an item's entity tag, or the path of a command's status.
    """
    match = _SHOWN_VERSION.fullmatch(shown.strip())
    return (match[1] or match[2] or match[3]) if match else None


def read_address(shown: str) -> tuple[str, str, str] | None:
    """The resource, the key as text, and the id in the path of a command's status."""
    match = _ADDRESS.fullmatch(shown.strip())
    return (match[1], decode_segment(match[2]), match[3]) if match else None


def is_known(entity_tag: str, if_none_match: str | None) -> bool:
    """Return whether `If-None-Match` lists the tag, by weak comparison (RFC 9110 §13.1.2)."""
    if if_none_match is None:
        return False
    opaque = entity_tag.removeprefix("W/")
    return if_none_match.strip() == "*" or opaque in _ENTITY_TAG.findall(if_none_match)
