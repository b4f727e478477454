"""`If-None-Match`: whether the client has what it asks for."""

from __future__ import annotations

import re

_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')


def is_known(entity_tag: str, if_none_match: str | None) -> bool:
    """Weak comparison, as RFC 9110 §13.1.2 has it for GET and HEAD."""
    if if_none_match is None:
        return False
    opaque = entity_tag.removeprefix("W/")
    return if_none_match.strip() == "*" or opaque in _ENTITY_TAG.findall(if_none_match)
