"""Access to the objects of an archive, in an S3 bucket or in a folder with a copy of it."""

from __future__ import annotations

import datetime as dt
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from forebay.archive.layout import IMPORTS_PREFIX, StoredObject
from forebay.aws.archive import Archive, ObjectGoneError
from forebay.errors import TransientError
from ops.archive.strays import Strays, is_stray, is_stray_file, is_stray_folder
from ops.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_READ_BLOCK_BYTES = 256 * 1024
#: Storage classes of objects that must be restored before they can be read.
#: Source: Amazon S3 User Guide, "Working with archived objects".
COLD_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
# Names of the files from which `Folder.create` makes objects; another process may be writing them.
_DRAFT = re.compile(r"\..+\.[0-9a-f]{32}", re.DOTALL)


class ObjectStore(Protocol):
    """The operations on an archive that the commands need."""

    #: The address as operators write it: `s3://bucket` or `file:///folder`.
    url: str
    #: Whether it is a copy in a folder, which may contain incomplete files.
    is_copy: bool
    #: Collects the strays that listings leave out.
    strays: Strays

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """Yield the objects with keys that begin with `prefix` and sort after `after`, by key.

        Strays are left out and added to `strays`. Bucket listings are read page by page.

        Raises:
            TransientError: the store did not answer.
            RefusedError: a folder contains a link, a special file or a name that is not UTF-8.
        """
        ...

    def read(self, key: str) -> Iterator[bytes]:
        """Yield an object's bytes as they are stored, in blocks.

        Raises:
            ObjectGoneError: the store does not have the object.
            TransientError: the store did not answer, or ended the answer early.
        """
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Store an object; return False, without a change, if the key exists.

        Raises:
            TransientError: the store did not confirm; the object may have been stored.
        """
        ...


class Bucket:
    """An archive in an S3 bucket."""

    is_copy = False

    def __init__(self, client: S3Client, bucket: str, strays: Strays | None = None) -> None:
        self.strays = Strays() if strays is None else strays
        self._archive = Archive(client, bucket)
        self.url = f"s3://{bucket}"
        self.bucket = bucket

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """See ObjectStore."""
        for stored in self._archive.list(prefix, after=after):
            if is_stray(stored.key, stored.size_bytes):
                self.strays.add(stored.key)
            else:
                yield stored

    def read(self, key: str) -> Iterator[bytes]:
        """See ObjectStore."""
        return self._archive.read(key)

    def create(self, key: str, content: bytes) -> bool:
        """See ObjectStore."""
        return self._archive.create(key, content)


class Folder:
    """A copy of an archive in a folder, such as `aws s3 sync` creates.

    The copy may come from a third party, so links are not followed; see `_check`.
    """

    is_copy = True

    def __init__(self, folder: Path, strays: Strays | None = None) -> None:
        self._folder = folder
        self.strays = Strays() if strays is None else strays
        self.url = f"file://{folder}"

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """See ObjectStore."""
        start = self._folder
        for part in prefix.split("/")[:-1]:
            start /= part
            if not os.path.lexists(start):
                return
            self._check(start)
        if not start.is_dir():
            return
        for path in self._list_files(start):
            key = path.relative_to(self._folder).as_posix()
            if key.startswith(prefix) and key > after:
                status = path.stat()
                modified = dt.datetime.fromtimestamp(status.st_mtime, dt.UTC)
                yield StoredObject(key, status.st_size, modified)

    def read(self, key: str) -> Iterator[bytes]:
        """See ObjectStore."""
        try:
            with (self._folder / key).open("rb") as file:
                while block := file.read(_READ_BLOCK_BYTES):
                    yield block
        except FileNotFoundError as exc:
            raise ObjectGoneError(f"{self.url}/{key} does not exist") from exc
        except OSError as exc:
            raise TransientError(f"{self.url}/{key}: {exc}") from exc

    def create(self, key: str, content: bytes) -> bool:
        """See ObjectStore."""
        file = self._folder / key
        # Listings leave the draft out. A link, unlike a rename, fails if the name exists.
        draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(content)
            try:
                os.link(draft, file)
            except FileExistsError:
                return False
            finally:
                draft.unlink()
        except OSError as exc:
            raise TransientError(f"{self.url}/{key}: {exc}") from exc
        return True

    def _list_files(self, folder: Path) -> Iterator[Path]:
        """Yield the files below a folder in S3's order of keys: folders sort with their slash."""
        entries = sorted(
            (entry for entry in folder.iterdir() if not self._leave_out(entry)),
            key=lambda entry: f"{entry.name}/" if entry.is_dir() else entry.name,
        )
        for entry in entries:
            self._check(entry)
            if entry.is_dir():
                yield from self._list_files(entry)
            else:
                yield entry

    def _leave_out(self, entry: Path) -> bool:
        """Return whether an entry is a draft or a stray, by its name only; count strays."""
        name = entry.name
        if _DRAFT.fullmatch(name):
            return True
        if not (is_stray_file(name) or is_stray_folder(name)):
            return False
        is_folder = entry.is_dir() and not entry.is_symlink()
        key = entry.relative_to(self._folder).as_posix() + "/" * is_folder
        if is_folder and not is_stray_folder(name):
            return False
        if key.startswith(IMPORTS_PREFIX) and not name.startswith("."):
            return False
        self.strays.add(key)
        return True

    def _check(self, entry: Path) -> None:
        """Refuse an entry that can't be the copy of an object or a folder of such copies.

        Raises:
            RefusedError: the entry is a link (it may lead out of the folder or in a circle), a
                special file (reading it may never end), or its name is not UTF-8.
        """
        mode = entry.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            kind = "a link" if stat.S_ISLNK(mode) else "a special file"
            raise RefusedError(
                f"{str(entry)!a} is {kind}, but the copy of an archive may contain only plain "
                "files and folders; remove it"
            )
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            raise RefusedError(
                f"{str(entry)!a} has a name that is not UTF-8, so it is not the copy of an object; "
                "remove it"
            ) from None


def parse_bucket_name(source: str) -> str:
    """Return the bucket that a source names, for commands that can't use a folder.

    Raises:
        UsageError: the source does not name a bucket.
    """
    parts = urlsplit(source)
    if parts.scheme not in {"", "s3"} or not (parts.netloc or parts.path).strip("/"):
        raise UsageError(f"{source} is not a bucket; write s3://bucket")
    return parts.netloc if parts.scheme else source


def open_store(
    source: str, s3: Callable[[], S3Client], strays: Strays | None = None
) -> ObjectStore:
    """Return the archive that a source names.

    Args:
        source: `s3://bucket`, `file:///folder`, or the name of a bucket.
        s3: returns a client; called only for a bucket.
        strays: collects the strays that listings leave out.

    Raises:
        UsageError: the source is not a bucket or an existing folder.
    """
    parts = urlsplit(source)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        if parts.netloc or not folder.is_dir():
            raise UsageError(f"{source} is not a folder; write file:///folder, with three slashes")
        return Folder(folder, strays)
    if parts.scheme in {"", "s3"}:
        bucket, below = (parts.netloc, parts.path) if parts.scheme else (source, "")
        if not parts.scheme and "/" in source:
            raise UsageError(f"{source} is no name of a bucket; write a folder as file:///folder")
        if not bucket or below.strip("/"):
            raise UsageError(
                f"{source} is not an archive; name only the bucket, as s3://bucket, "
                "because the ledger contains whole keys"
            )
        return Bucket(s3(), bucket, strays)
    raise UsageError(f"{source} is not an archive; write s3://bucket or file:///folder")
