"""The bucket of attachments: uploads of clients, and the objects that rows name."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from forebay.attachments import OBJECTS_PREFIX, Claimed, Upload, decode_detail, encode_details
from forebay.aws.archive import Archive
from forebay.errors import TransientError

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

_BLOCK_BYTES: Final = 1024 * 1024
_MISSING: Final = frozenset({"NoSuchKey", "404", "NotFound"})
#: The answers to a conditional write of an existing object, or of one that another request is
#: writing at the same time.
_EXISTS: Final = frozenset({HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT})


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A client's upload that is being read."""

    type: str
    size: int
    #: As the form had it.
    by: str
    name: str | None
    trace: str | None
    content: StreamingBody

    def read_blocks(self) -> Iterator[bytes]:
        """Yield the content.

        Raises:
            TransientError: S3 broke off.
        """
        try:
            yield from self.content.iter_chunks(_BLOCK_BYTES)
        except (BotoCoreError, HTTPClientError, OSError) as exc:
            raise TransientError(f"an upload could not be read: {exc}") from exc
        finally:
            self.content.close()


class AttachmentStore:
    """The bucket."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self.bucket = bucket

    def find(self, upload: Upload) -> Claimed | None:
        """The object that a row may name, as S3 describes it; None if there is none.

        Raises:
            TransientError: S3 did not answer.
        """
        try:
            head = self._client.head_object(
                Bucket=self.bucket, Key=upload.object_name, ChecksumMode="ENABLED"
            )
        except ClientError as exc:
            if _is_missing(exc):
                return None
            raise self._describe(upload.object_name, exc) from exc
        except (BotoCoreError, HTTPClientError, OSError) as exc:
            raise self._describe(upload.object_name, exc) from exc
        details = head["Metadata"]
        return Claimed(
            name=decode_detail(details.get("name")),
            type=head["ContentType"],
            size=head["ContentLength"],
            sha256=base64.b64decode(head["ChecksumSHA256"]).hex(),
            by=decode_detail(details.get("by")) or "",
            trace=details.get("trace"),
            schema=int(details["schema"]),
        )

    def open(self, upload: Upload) -> OpenUpload | None:
        """A client's upload; None if there is none.

        Raises:
            TransientError: S3 did not answer.
        """
        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=upload.upload_name)
        except ClientError as exc:
            if _is_missing(exc):
                return None
            raise self._describe(upload.upload_name, exc) from exc
        except (BotoCoreError, HTTPClientError, OSError) as exc:
            raise self._describe(upload.upload_name, exc) from exc
        details = answer["Metadata"]
        return OpenUpload(
            type=answer["ContentType"],
            size=answer["ContentLength"],
            by=decode_detail(details.get("by")) or "",
            name=decode_detail(details.get("name")),
            trace=details.get("trace"),
            content=answer["Body"],
        )

    def create(self, upload: Upload, claimed: Claimed, content: IO[bytes]) -> bool:
        """Store the object that the row will name; False if there is one.

        S3 refuses content with another checksum.

        Raises:
            TransientError: possibly not stored.
        """
        details = encode_details(claimed.by, claimed.name, claimed.trace)
        try:
            self._client.put_object(
                Bucket=self.bucket,
                Key=upload.object_name,
                Body=content,
                ContentLength=claimed.size,
                ContentType=claimed.type,
                ChecksumSHA256=base64.b64encode(bytes.fromhex(claimed.sha256)).decode(),
                Metadata={**details, "schema": str(claimed.schema)},
                IfNoneMatch="*",
            )
        except ClientError as exc:
            if exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in _EXISTS:
                return False
            raise self._describe(upload.object_name, exc) from exc
        except (BotoCoreError, HTTPClientError, OSError) as exc:
            raise self._describe(upload.object_name, exc) from exc
        return True

    def delete_upload(self, upload: Upload) -> None:
        """Delete a claimed upload: the uploads that stay are those that still need an event.

        Raises:
            TransientError: possibly not deleted.
        """
        try:
            self._client.delete_object(Bucket=self.bucket, Key=upload.upload_name)
        except (ClientError, BotoCoreError, HTTPClientError, OSError) as exc:
            raise self._describe(upload.upload_name, exc) from exc

    def list_names(self, resource: str) -> Iterator[str]:
        """Yield the names of the objects that rows of a resource may name.

        Raises:
            TransientError: S3 did not answer.
        """
        objects = Archive(self._client, self.bucket).list(f"{OBJECTS_PREFIX}{resource}/")
        return (stored.key for stored in objects)

    def _describe(self, name: str, error: Exception) -> TransientError:
        return TransientError(f"s3://{self.bucket}/{name}: {error}")


def _is_missing(error: ClientError) -> bool:
    return error.response.get("Error", {}).get("Code") in _MISSING
