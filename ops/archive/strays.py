"""Recognizes strays: files without the name of an archive object.

File managers, editors and copying tools leave such files in a copied folder, and a synchronization
copies them to a bucket. Listings leave them out, and results count them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from forebay.archive.layout import IMPORTS_PREFIX

#: Names of files, in lower case.
_NAMES: Final = frozenset({"desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db"})
#: Names of folders, in lower case: of macOS archives, Windows, Linux and network drives.
_FOLDERS: Final = frozenset(
    {
        *("$recycle.bin", "#recycle", "@eadir", "__macosx", "lost+found"),
        "system volume information",
    }
)
#: Temporary files, backups, files of checksums, folder markers of Hadoop.
_ENDINGS: Final = (
    *(".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".gstmp", ".part.minio"),
    *(".bak", ".orig", ".rej", ".swp", ".swo", "~", ".lnk"),
    *(".md5", ".sha1", ".sha256", "_$folder$"),
)
_BEGINNINGS: Final = (".", "~$", ".azdownload-")
#: An unfinished download of the AWS CLI: `s3transfer` adds eight hexadecimal digits.
_UNFINISHED: Final = re.compile(r".+\.[0-9a-f]{8}", re.DOTALL)
#: The number of strays that a result names.
_NAMED: Final = 20


def is_stray(key: str, size_bytes: int) -> bool:
    """Return whether an object is a stray by its name.

    Files below `imports/` are not strays, because the import reports about every file there.

    Args:
        key: the object's key, or the path of a file in a copied folder.
        size_bytes: the object's size; an empty object with a slash at the end of its key is the
            marker of a folder.
    """
    if key.startswith(IMPORTS_PREFIX):
        return False
    if key.endswith("/"):
        return size_bytes == 0
    *folders, name = key.lower().split("/")
    return is_stray_file(name) or any(map(is_stray_folder, folders))


def is_stray_file(name: str) -> bool:
    """Return whether a file is a stray by its name, which must not contain its folders."""
    name = name.lower()
    return (
        name in _NAMES
        or name.startswith(_BEGINNINGS)
        or name.endswith(_ENDINGS)
        or _UNFINISHED.fullmatch(name) is not None
    )


def is_stray_folder(name: str) -> bool:
    """Return whether all files in a folder of this name are strays."""
    return name.startswith(".") or name.lower() in _FOLDERS


class Strays:
    """The strays that listings have left out, without repetitions."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._keys))

    def __str__(self) -> str:
        keys = ", ".join(self._list_first_keys())
        more = f" and {len(self) - _NAMED:,} more" if len(self) > _NAMED else ""
        return f"left out, because their names are not those of archive objects: {keys}{more}"

    def add(self, key: str) -> None:
        """Add a stray; adding it again has no effect."""
        self._keys[key] = None

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result: the number of strays, and the first keys."""
        return {"objects": len(self), "named": self._list_first_keys()}

    def _list_first_keys(self) -> list[str]:
        return list(self)[:_NAMED]
