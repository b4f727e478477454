"""Attachments: fields with content in an object in S3, next to the row.

The module imports no pydantic: functions load compiled declarations with schemas that name the
class `Attachment`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from typing_extensions import TypedDict  # pydantic requires this one below Python 3.12

#: Larger files would not fit the memory and the time of the function that claims an upload.
MAX_BYTES: Final = 100 * 1024 * 1024
DEFAULT_MAX_BYTES: Final = 5_000_000

# type/subtype in lower case (RFC 6838 §4.2), without parameters.
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")


class Attachment(TypedDict):
    """The value of an attachment field: a description of the object, made by the server."""

    #: The upload's id, which is the id of the command that set the value.
    id: str
    #: The file's name as the client gave it; None without one.
    name: str | None
    #: The media type.
    type: str
    #: In bytes.
    size: int
    #: The SHA-256 of the content, in hexadecimal digits.
    sha256: str
    #: The path of the download.
    link: str


@dataclass(frozen=True, slots=True, init=False)
class Media:
    """The mark of an attachment field: the allowed media types, and the maximum size in bytes."""

    types: tuple[str, ...]
    max_bytes: int

    def __init__(self, *types: str, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        object.__setattr__(self, "types", types)
        object.__setattr__(self, "max_bytes", max_bytes)

    def find_fault(self) -> str | None:
        """Return the reason why the mark is invalid, or None."""
        if not self.types:
            return 'Media requires at least one media type, such as "image/png"'
        for media_type in self.types:
            if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
                return (
                    f"Media: {media_type!r} is not a media type in lower case without parameters, "
                    'such as "image/png"'
                )
        if type(self.max_bytes) is not int or not 1 <= self.max_bytes <= MAX_BYTES:
            return f"Media: max_bytes must be 1 to {MAX_BYTES:,}, not {self.max_bytes!r}"
        return None
