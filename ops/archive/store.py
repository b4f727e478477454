"""Where an archive is kept: an S3 bucket, or a folder with a copy of one."""

from __future__ import annotations

import datetime as dt
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from forebay.aws.archive import IMPORTS_PREFIX, Archive, ObjectGoneError
from forebay.errors import TransientError
from ops.archive.strays import Strays, is_stray, is_stray_file, is_stray_folder
from ops.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_READ_BLOCK_BYTES = 256 * 1024
STANDARD = "STANDARD"
#: Classes whose objects can't be read before they are restored.
#: Source: Amazon S3 User Guide, "Working with archived objects".
COLD_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
# What `Folder.create` writes before it links the object; another process may be at it.
_DRAFT = re.compile(r"\..+\.[0-9a-f]{32}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of the archive, as a listing tells it."""

    key: str
    size_bytes: int
    modified: dt.datetime
    storage_class: str = STANDARD


class ObjectStore(Protocol):
    """What the tools need of an archive, wherever it is."""

    #: How an operator writes it: `s3://bucket` or `file:///folder`.
    url: str
    #: Whether it is a copy in a folder, which may hold files that were cut off or never finished.
    is_copy: bool
    #: Takes the strays that listings leave out.
    strays: Strays

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """The objects whose keys begin so and sort after `after`, by key; a page at a time.

        Strays are added to `strays` instead.

        Raises:
            TransientError: the store did not answer.
        """
        ...

    def read(self, key: str) -> Iterator[bytes]:
        """An object's bytes as they are stored, in blocks.

        Raises:
            ObjectGoneError: there is no such object.
            TransientError: the store did not answer, or broke off.
        """
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Stores an object unless its key is taken; False if it is.

        Raises:
            TransientError: unknown whether it was stored.
        """
        ...


class Bucket:
    """An archive in S3."""

    is_copy = False

    def __init__(self, client: S3Client, bucket: str, strays: Strays | None = None) -> None:
        self._client = client
        self.strays = Strays() if strays is None else strays
        self._archive = Archive(client, bucket)
        self.url = f"s3://{bucket}"
        self.bucket = bucket

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """See ObjectStore."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, StartAfter=after
        )
        try:
            for page in pages:
                for entry in page.get("Contents", []):
                    if is_stray(entry["Key"], entry["Size"]):
                        self.strays.add(entry["Key"])
                        continue
                    yield StoredObject(
                        key=entry["Key"],
                        size_bytes=entry["Size"],
                        modified=entry["LastModified"],
                        storage_class=entry.get("StorageClass", STANDARD),
                    )
        except (BotoCoreError, ClientError) as exc:
            raise TransientError(f"{self.url}/{prefix} can't be listed: {exc}") from exc

    def read(self, key: str) -> Iterator[bytes]:
        """See ObjectStore."""
        return self._archive.read(key)

    def create(self, key: str, content: bytes) -> bool:
        """See ObjectStore."""
        return self._archive.create(key, content)


class Folder:
    """An archive copied to a folder, such as `aws s3 sync` makes it.

    Whoever made the copy may have made it for others: links are not followed, see `_check`.
    """

    is_copy = True

    def __init__(self, folder: Path, strays: Strays | None = None) -> None:
        self._folder = folder
        self.strays = Strays() if strays is None else strays
        self.url = f"file://{folder}"

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """See ObjectStore."""
        beginning = self._folder
        for part in prefix.split("/")[:-1]:
            beginning /= part
            if not os.path.lexists(beginning):
                return
            self._check(beginning)
        if not beginning.is_dir():
            return
        for path in self._walk(beginning):
            key = path.relative_to(self._folder).as_posix()
            if key.startswith(prefix) and key > after:
                found = path.stat()
                modified = dt.datetime.fromtimestamp(found.st_mtime, dt.UTC)
                yield StoredObject(key, found.st_size, modified)

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
        # Hidden from listings until it is whole, and linked rather than renamed: a link is not made
        # where the name is taken.
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

    def _walk(self, folder: Path) -> Iterator[Path]:
        """Every file below, in the order in which S3 lists keys: a folder sorts with its slash."""
        entries = sorted(
            (entry for entry in folder.iterdir() if not self._leave_out(entry)),
            key=lambda entry: f"{entry.name}/" if entry.is_dir() else entry.name,
        )
        for entry in entries:
            self._check(entry)
            if entry.is_dir():
                yield from self._walk(entry)
            else:
                yield entry

    def _leave_out(self, entry: Path) -> bool:
        """Leave a stray out; whether it is one. It is looked at by its name only."""
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
        """Makes sure that an entry is the copy of an object, or leads to such.

        Raises:
            RefusedError: reading it would lead out of the folder, in a circle, or never end; or
                its name can be no object's.
        """
        mode = entry.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            kind = "a link" if stat.S_ISLNK(mode) else "no file"
            raise RefusedError(
                f"{str(entry)!a} is {kind}, and the copy of an archive has plain files and folders "
                "only; remove it"
            )
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            raise RefusedError(
                f"{str(entry)!a} is not named in UTF-8, as every object is; remove it"
            ) from None


def bucket_name(source: str) -> str:
    """The bucket that a source names; for those who need one and no copy of it.

    Raises:
        UsageError: it names none.
    """
    parts = urlsplit(source)
    if parts.scheme not in {"", "s3"} or not (parts.netloc or parts.path).strip("/"):
        raise UsageError(f"{source} is no bucket; write s3://bucket")
    return parts.netloc if parts.scheme else source


def open_store(
    source: str, s3: Callable[[], S3Client], strays: Strays | None = None
) -> ObjectStore:
    """The archive that a source names.

    Args:
        source: `s3://bucket`, `file:///folder`, or a bucket's bare name.
        s3: gives a client, where one is needed.
        strays: takes the strays that listings leave out.

    Raises:
        UsageError: it names none.
    """
    parts = urlsplit(source)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        if parts.netloc or not folder.is_dir():
            raise UsageError(f"{source} is no folder; write file:///folder, with three slashes")
        return Folder(folder, strays)
    if parts.scheme in {"", "s3"}:
        bucket, below = (parts.netloc, parts.path) if parts.scheme else (source, "")
        if not bucket or below.strip("/"):
            raise UsageError(
                f"{source} is no archive; name its bucket only: s3://bucket, "
                "for the ledger knows objects by their whole keys"
            )
        return Bucket(s3(), bucket, strays)
    raise UsageError(f"{source} is no archive; write s3://bucket or file:///folder")
