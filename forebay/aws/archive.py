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

from forebay.archive.layout import (
    AUDIT_PREFIX,
    STANDARD,
    StoredObject,
    build_object_key,
    format_hour,
)
from forebay.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        GetObjectRequestTypeDef,
        PutObjectRequestTypeDef,
    )

_READ_BLOCK_BYTES = 256 * 1024
_GZIP_LEVEL = 6
#: S3 answers 409 to one of two simultaneous conditional writes of a key. Retry for this time, which
#: leaves the write function enough time to answer its client.
_CONFLICT_SECONDS = 1.0
_CONFLICT_PAUSE_SECONDS = 0.05


class ObjectGoneError(PermanentError):
    """The archive has no such object."""


class ObjectDiffersError(PermanentError):
    """An object of the archive has other content than the object that was to be created."""


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object that is being read."""

    file: BinaryIO
    #: Changes with the content: S3's version id, or the entity tag in a bucket without versions.
    version: str
    stored_at: dt.datetime
    etag: str
    #: The object's user-defined metadata, in ASCII.
    metadata: Mapping[str, str]
    #: The object's content encodings, separated by commas; usually empty.
    encoding: str = ""


class Archive:
    """An archive bucket."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self.bucket = bucket
        #: The bucket as operators write it.
        self.url = f"s3://{bucket}"

    def read(self, key: str) -> Iterator[bytes]:
        """Yield the object's stored bytes in blocks.

        Raises:
            ObjectGoneError: the object does not exist.
            TransientError: S3 did not answer, or broke off.
        """
        try:
            yield from self._get(key)["Body"].iter_chunks(_READ_BLOCK_BYTES)
        except (BotoCoreError, HTTPClientError, OSError) as exc:
            raise TransientError(f"s3://{self.bucket}/{key}: {exc}") from exc

    def open(self, key: str, *, version: str | None = None) -> OpenObject:
        """An object as a file; its reads raise TransientError if S3 breaks off.

        Args:
            key: of the object.
            version: S3's version id; None for the newest version.

        Raises:
            ObjectGoneError: the object does not exist.
            TransientError: S3 did not answer.
        """
        answer = self._get(key, version)
        file = io.BufferedReader(_Blocks(answer["Body"].iter_chunks(_READ_BLOCK_BYTES), key))
        return OpenObject(
            file,
            version=answer.get("VersionId") or answer["ETag"].strip('"'),
            stored_at=answer["LastModified"],
            etag=answer["ETag"],
            metadata=answer["Metadata"],
            encoding=answer.get("ContentEncoding", ""),
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

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """Yield the objects with that prefix and keys that sort after `after`, by key, in pages.

        Raises:
            TransientError: S3 did not answer.
        """
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, StartAfter=after
        )
        try:
            for page in pages:
                for entry in page.get("Contents", []):
                    yield StoredObject(
                        key=entry["Key"],
                        size_bytes=entry["Size"],
                        modified=entry["LastModified"],
                        storage_class=entry.get("StorageClass", STANDARD),
                    )
        except (BotoCoreError, ClientError) as exc:
            raise TransientError(f"s3://{self.bucket}/{prefix} can't be listed: {exc}") from exc

    def write_commands(self, lines: Sequence[bytes], command_id: str) -> None:
        """Store lines as an object; its S3 event makes the consumer apply it, as any object.

        An existing object of that name has the same lines: no other call makes a command with that
        id, so this call stored it, and its answer was lost.

        Args:
            lines: encoded commands, newline included.
            command_id: of the first command; gives the object its name and hour.

        Raises:
            TransientError: possibly not stored.
        """
        self._create_commands("direct", lines, command_id)

    def write_import(
        self, lines: Sequence[bytes], name_id: str, metadata: Mapping[str, str]
    ) -> bool:
        """Store lines of a bulk import as an object; its S3 event makes the consumer apply it.

        Args:
            lines: encoded commands, newline included; may be empty.
            name_id: gives the object its name and hour; the same in each run of the import.
            metadata: the import's own data about the object, in ASCII.

        Returns:
            Whether the object was created; False if an object of that name exists.

        Raises:
            TransientError: possibly not stored.
        """
        return self._create_commands("import", lines, name_id, metadata)

    def write_amendments(self, lines: Sequence[bytes], command_id: str) -> str:
        """Store amendments of rejected commands as an object, which its S3 event applies.

        The object has the hour of the commands' ids, however late it is written, so that tools
        with a time range find it. Its name depends on its lines, so storing them again is harmless.

        Args:
            lines: encoded commands of one hour, newline included.
            command_id: of the first command; gives the object its name and hour.

        Returns:
            The object's key.

        Raises:
            ObjectDiffersError: an object of that name has other lines.
            TransientError: possibly not stored.
        """
        content = b"".join(lines)
        name = f"{command_id}-{hashlib.sha256(content).hexdigest()[:16]}"
        created = self._create_commands("amend", lines, name)
        key = build_object_key("amend", name)
        if not created and self._read_inflated(key) != content:
            raise ObjectDiffersError(
                f"s3://{self.bucket}/{key} exists, but its lines do not match its name; Forebay "
                "never overwrites objects, so restore its first version"
            )
        return key

    def open_import(self, name_id: str) -> OpenObject:
        """The object that `write_import` stored under that name.

        Raises:
            ObjectGoneError: the object does not exist.
            TransientError: S3 did not answer.
        """
        return self.open(build_object_key("import", name_id))

    def create(self, key: str, content: bytes, metadata: Mapping[str, str] | None = None) -> bool:
        """Store a text under a new key; False if the key has an object.

        That object may be this call's own: the SDK repeats a request after a lost answer.
        `metadata` are ASCII.

        Raises:
            TransientError: possibly not stored.
        """
        return self._create(key, content, gzipped=False, metadata=metadata)

    def replace_text(
        self, key: str, text: bytes, etag: str, metadata: Mapping[str, str] | None = None
    ) -> bool:
        """Replace an object with that entity tag by a text; False if its tag has changed.

        `metadata` are ASCII.

        Raises:
            TransientError: possibly not stored.
        """
        request = self._build_request(key, text, gzipped=False) | {"Metadata": metadata or {}}
        return self._put_if(request | {"IfMatch": etag})

    def write_audit(self, name: str, at: dt.datetime, lines: Sequence[bytes]) -> str:
        """Store decisions of operators; return the object's key.

        Args:
            name: of the object, unique within its hour.
            at: the time, with a zone.
            lines: one JSON object each, newline included.

        Raises:
            TransientError: possibly not stored.
        """
        key = f"{format_hour(at, AUDIT_PREFIX)}/{name}.ndjson"
        self._create(key, b"".join(lines), gzipped=False)
        return key

    def _create_commands(
        self,
        source: str,
        lines: Sequence[bytes],
        name_id: str,
        metadata: Mapping[str, str] | None = None,
    ) -> bool:
        content = gzip.compress(b"".join(lines), _GZIP_LEVEL, mtime=0)
        return self._create(
            build_object_key(source, name_id), content, gzipped=True, metadata=metadata
        )

    def _read_inflated(self, key: str) -> bytes | None:
        """The lines of a small object; None if it is not a gzip file."""
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
        """Store an object under a new key; an existing object is not changed.

        Returns:
            Whether the object was created. False if the key has an object, which may be this call's
            own: the SDK repeats a request after a lost answer.

        Raises:
            TransientError: possibly not stored.
        """
        request = self._build_request(key, content, gzipped=gzipped)
        if metadata:
            request["Metadata"] = metadata
        return self._put_if(request | {"IfNoneMatch": "*"})

    def _put_if(self, request: PutObjectRequestTypeDef) -> bool:
        """Store an object if the request's condition holds; return whether it was stored."""
        until = time.monotonic() + _CONFLICT_SECONDS
        while True:
            try:
                self._client.put_object(**request)
            except ClientError as exc:
                if _get_status(exc) == HTTPStatus.PRECONDITION_FAILED:
                    return False
                if _get_status(exc) != HTTPStatus.CONFLICT or time.monotonic() > until:
                    raise self._describe_failure(request["Key"], exc) from exc
                time.sleep(_CONFLICT_PAUSE_SECONDS)
            except (BotoCoreError, HTTPClientError, OSError) as exc:
                raise self._describe_failure(request["Key"], exc) from exc
            else:
                return True

    def _build_request(self, key: str, content: bytes, *, gzipped: bool) -> PutObjectRequestTypeDef:
        request: PutObjectRequestTypeDef = {
            "Bucket": self.bucket,
            "Key": key,
            "Body": content,
            "ContentType": "application/octet-stream" if gzipped else "application/x-ndjson",
        }
        if gzipped:
            request["ContentEncoding"] = "gzip"
        return request

    def _describe_failure(self, key: str, exc: Exception) -> TransientError:
        return TransientError(f"s3://{self.bucket}/{key}: {exc}")


def _get_status(error: ClientError) -> int | None:
    """The HTTP status of an answer of S3."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")


class _Blocks(io.RawIOBase):
    """Blocks of bytes as a file; a failure of S3 raises TransientError."""

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
