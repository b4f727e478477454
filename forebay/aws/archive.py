"""The archive bucket: reads objects as streams, creates objects of commands and decisions."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from forebay.errors import PermanentError, TransientError
from forebay.ids import accepted_ms

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        GetObjectRequestTypeDef,
        PutObjectRequestTypeDef,
    )

COMMANDS_PREFIX = "commands/"
AUDIT_PREFIX = "audit/"
#: Files to import, and what the name of each one's report ends with.
IMPORTS_PREFIX = "imports/"
REPORT_SUFFIX = ".report.json"
_READ_BLOCK_BYTES = 256 * 1024
_GZIP_LEVEL = 6
#: S3 answers 409 to one of two conditional writes of one key at the same time: try it again, but
#: not for so long that the write function answers its client too late.
_CONFLICT_SECONDS = 1.0
_CONFLICT_PAUSE_SECONDS = 0.05


class ObjectGoneError(PermanentError):
    """The archive has no such object."""


class ObjectDiffersError(PermanentError):
    """An object of the archive has other content than the one that was to be created."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object of the archive, as a listing tells of it."""

    key: str
    #: When it was stored.
    modified: dt.datetime


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object that is being read."""

    file: BinaryIO
    #: Changes with the content; S3 numbers the versions of its buckets that keep them.
    version: str
    stored_at: dt.datetime
    etag: str
    #: What the writer stored beside the content, in ASCII.
    metadata: Mapping[str, str]
    #: The content encodings that the writer named, with commas between them; mostly empty.
    encoding: str = ""


class Archive:
    """One archive bucket."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self.bucket = bucket
        #: How an operator writes it.
        self.url = f"s3://{bucket}"

    def read(self, key: str) -> Iterator[bytes]:
        """The object's bytes as they are stored, in blocks.

        Raises:
            ObjectGoneError: there is no such object.
            TransientError: S3 did not answer, or broke off.
        """
        try:
            yield from self._get(key)["Body"].iter_chunks(_READ_BLOCK_BYTES)
        except (BotoCoreError, HTTPClientError, OSError) as exc:
            raise TransientError(f"s3://{self.bucket}/{key}: {exc}") from exc

    def open(self, key: str, *, version: str | None = None) -> OpenObject:
        """An object as a file; what reads it raises TransientError where S3 breaks off.

        Args:
            key: of the object.
            version: one that S3 numbered; None for the newest.

        Raises:
            ObjectGoneError: there is no such object.
            TransientError: S3 did not answer.
        """
        found = self._get(key, version)
        file = io.BufferedReader(_Blocks(found["Body"].iter_chunks(_READ_BLOCK_BYTES), key))
        return OpenObject(
            file,
            version=found.get("VersionId") or found["ETag"].strip('"'),
            stored_at=found["LastModified"],
            etag=found["ETag"],
            metadata=found["Metadata"],
            encoding=found.get("ContentEncoding", ""),
        )

    def _get(self, key: str, version: str | None = None) -> GetObjectOutputTypeDef:
        request: GetObjectRequestTypeDef = {"Bucket": self.bucket, "Key": key}
        if version is not None:
            request["VersionId"] = version
        try:
            return self._client.get_object(**request)
        except ClientError as exc:
            if exc.response.get("Error", {}).get("Code") in {"NoSuchKey", "NoSuchVersion", "404"}:
                raise ObjectGoneError(f"s3://{self.bucket}/{key} does not exist") from exc
            raise TransientError(f"s3://{self.bucket}/{key}: {exc}") from exc
        except (BotoCoreError, HTTPClientError, OSError) as exc:
            raise TransientError(f"s3://{self.bucket}/{key}: {exc}") from exc

    def list(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        """The objects whose keys begin so and sort after `after`, by key; a page at a time.

        Raises:
            TransientError: S3 did not answer.
        """
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, StartAfter=after
        )
        try:
            for page in pages:
                for entry in page.get("Contents", []):
                    yield Listed(entry["Key"], entry["LastModified"])
        except (BotoCoreError, ClientError) as exc:
            raise TransientError(f"s3://{self.bucket}/{prefix} can't be listed: {exc}") from exc

    def write_commands(self, lines: Sequence[bytes], command_id: str) -> None:
        """Stores lines as an object of their own, which the same event applies.

        An object of that name has the same lines: no other call makes a command of that id, so
        this call stored it, and its answer was lost.

        Args:
            lines: encoded commands, newline included.
            command_id: of the first one; names the object and its hour.

        Raises:
            TransientError: not stored, as far as we know.
        """
        self._create_commands("direct", lines, command_id)

    def write_import(
        self, lines: Sequence[bytes], name_id: str, metadata: Mapping[str, str]
    ) -> bool:
        """Stores lines of a bulk import as an object, which the same event applies.

        Args:
            lines: encoded commands, newline included; perhaps none.
            name_id: names the object and its hour; the same in each run of the import.
            metadata: what the import needs to know about the object, in ASCII.

        Returns:
            Whether the object was created; False where an object of that name exists.

        Raises:
            TransientError: not stored, as far as we know.
        """
        return self._create_commands("import", lines, name_id, metadata)

    def write_amendments(self, lines: Sequence[bytes], command_id: str) -> str:
        """Stores commands that amend rejected ones as an object, which the same event applies.

        The object is of the hour of their ids, however late it is written: tools that are bounded
        in time find it there. Its name depends on its lines, so that storing them again is
        harmless.

        Args:
            lines: encoded commands of one hour, newline included.
            command_id: of the first one; names the object and its hour.

        Returns:
            The object's key.

        Raises:
            ObjectDiffersError: an object of that name has other lines.
            TransientError: not stored, as far as we know.
        """
        content = b"".join(lines)
        name = f"{command_id}-{hashlib.sha256(content).hexdigest()[:16]}"
        created = self._create_commands("amend", lines, name)
        key = _commands_key("amend", name)
        if not created and self._inflated(key) != content:
            raise ObjectDiffersError(
                f"s3://{self.bucket}/{key} exists and has other lines than its name says; "
                "restore its first version, for nothing rewrites it"
            )
        return key

    def open_import(self, name_id: str) -> OpenObject:
        """The object that `write_import` stored under that name.

        Raises:
            ObjectGoneError: there is no such object.
            TransientError: S3 did not answer.
        """
        return self.open(_commands_key("import", name_id))

    def create(self, key: str, content: bytes, metadata: Mapping[str, str] | None = None) -> bool:
        """Stores a text under a key that no object has; False where the key has one.

        That object can be this call's own: the SDK repeats a request whose answer was lost.
        `metadata` are ASCII.

        Raises:
            TransientError: not stored, as far as we know.
        """
        return self._create(key, content, gzipped=False, metadata=metadata)

    def replace_text(
        self, key: str, text: bytes, etag: str, metadata: Mapping[str, str] | None = None
    ) -> bool:
        """Stores a text in the place of an object with that tag; False where it has another now.

        `metadata` are ASCII.

        Raises:
            TransientError: not stored, as far as we know.
        """
        request = self._request(key, text, gzipped=False) | {"Metadata": metadata or {}}
        return self._put_if(request | {"IfMatch": etag})

    def write_audit(self, name: str, at: dt.datetime, lines: Sequence[bytes]) -> str:
        """Stores what operators decided; the object's key.

        Args:
            name: of the object in its hour; no other call has the same.
            at: when, with a zone.
            lines: one JSON object each, newline included.

        Raises:
            TransientError: not stored, as far as we know.
        """
        key = f"{AUDIT_PREFIX}{at.astimezone(dt.UTC):%Y/%m/%d/%H}/{name}.ndjson"
        self._create(key, b"".join(lines), gzipped=False)
        return key

    def _create_commands(
        self,
        way: str,
        lines: Sequence[bytes],
        name_id: str,
        metadata: Mapping[str, str] | None = None,
    ) -> bool:
        content = gzip.compress(b"".join(lines), _GZIP_LEVEL, mtime=0)
        return self._create(_commands_key(way, name_id), content, gzipped=True, metadata=metadata)

    def _inflated(self, key: str) -> bytes | None:
        """The lines of a small object; None where it is no gzip file."""
        try:
            return gzip.decompress(b"".join(self.read(key)))
        except (gzip.BadGzipFile, EOFError, zlib.error):
            return None

    def _create(
        self,
        key: str,
        content: bytes,
        *,
        gzipped: bool,
        metadata: Mapping[str, str] | None = None,
    ) -> bool:
        """Stores an object under a key that no object has; an existing object is left as it is.

        Returns:
            Whether the object was created. False says that the key has an object. That object can
            be this call's own: the SDK repeats a request whose answer was lost.

        Raises:
            TransientError: not stored, as far as we know.
        """
        request = self._request(key, content, gzipped=gzipped)
        if metadata:
            request["Metadata"] = metadata
        return self._put_if(request | {"IfNoneMatch": "*"})

    def _put_if(self, request: PutObjectRequestTypeDef) -> bool:
        """Stores an object if the request's condition holds; whether it did."""
        until = time.monotonic() + _CONFLICT_SECONDS
        while True:
            try:
                self._client.put_object(**request)
            except ClientError as exc:
                if _status(exc) == HTTPStatus.PRECONDITION_FAILED:
                    return False
                if _status(exc) != HTTPStatus.CONFLICT or time.monotonic() > until:
                    raise self._not_stored(request["Key"], exc) from exc
                time.sleep(_CONFLICT_PAUSE_SECONDS)
            except (BotoCoreError, HTTPClientError, OSError) as exc:
                raise self._not_stored(request["Key"], exc) from exc
            else:
                return True

    def _request(self, key: str, content: bytes, *, gzipped: bool) -> PutObjectRequestTypeDef:
        request: PutObjectRequestTypeDef = {
            "Bucket": self.bucket,
            "Key": key,
            "Body": content,
            "ContentType": "application/octet-stream" if gzipped else "application/x-ndjson",
        }
        if gzipped:
            request["ContentEncoding"] = "gzip"
        return request

    def _not_stored(self, key: str, exc: Exception) -> TransientError:
        return TransientError(f"s3://{self.bucket}/{key}: {exc}")


def _commands_key(way: str, name_id: str) -> str:
    """Key of an object of commands, in the hour of the id that names it."""
    hour = dt.datetime.fromtimestamp(accepted_ms(name_id) / 1000, dt.UTC)
    return f"{COMMANDS_PREFIX}{hour:%Y/%m/%d/%H}/{way}-{name_id}.gz"


def _status(error: ClientError) -> int | None:
    """The HTTP status of an answer of S3."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")


class _Blocks(io.RawIOBase):
    """Blocks of bytes as a file; what S3 breaks off is transient."""

    def __init__(self, blocks: Iterator[bytes], key: str) -> None:
        super().__init__()
        self._blocks = blocks
        self._key = key
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        try:
            block = self._rest or next(self._blocks, b"")
        except (BotoCoreError, HTTPClientError, OSError) as exc:
            raise TransientError(f"{self._key}: {exc}") from exc
        size = min(len(block), len(buffer))
        buffer[:size] = block[:size]
        self._rest = block[size:]
        return size


def holds_amendments(key: str) -> bool:
    """Whether an object has amendments: their ids tell nothing of how long they were on their way.

    They are as old as the commands that they amend.
    """
    return key.rpartition("/")[2].startswith("amend-")


def commands_from(hour: dt.datetime) -> str:
    """What sorts before the keys of all objects of that hour (UTC) and later ones."""
    return f"{COMMANDS_PREFIX}{hour.astimezone(dt.UTC):%Y/%m/%d/%H}/"
