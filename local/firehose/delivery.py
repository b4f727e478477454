"""Build S3 objects from sealed segments and put them."""

import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from local.firehose.keys import object_key
from local.firehose.segment import Record, SpoolCorruptError
from local.firehose.spool import Segment
from local.firehose.streams import StreamConfig

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 30.0
GZIP_LEVEL = 6
GZIP_WINDOW_BITS = 31  # makes zlib write a gzip header and trailer


class DeliveryError(Exception):
    """S3 has not confirmed the object; the delivery must be tried again."""


@dataclass(frozen=True)
class S3Object:
    """An object as Firehose writes it."""

    bucket: str
    key: str
    body: bytes
    content_encoding: str | None


def make_object(config: StreamConfig, segment: Segment, records: Iterable[Record]) -> S3Object:
    """Concatenate the raw `records` into an object in the format of `config`.

    The same segment, order and configuration give the same key and the same bytes.
    """
    oldest = datetime.fromtimestamp(segment.oldest_ms / 1000, UTC)
    return S3Object(
        bucket=config.bucket,
        key=object_key(
            prefix=config.prefix,
            stream=config.name,
            version=config.version,
            oldest_arrival=oldest,
            object_id=segment.object_id,
            extension=config.extension,
        ),
        body=_encode_body(config, records),
        content_encoding="gzip" if config.is_gzip else None,
    )


def put_object(client: "S3Client", item: S3Object) -> None:
    """Put `item`, once. Blocks.

    Raises:
        DeliveryError: S3 refused the object, or may not have it.
    """
    request: PutObjectRequestTypeDef = {
        "Bucket": item.bucket,
        "Key": item.key,
        "Body": item.body,
        "ContentType": "application/octet-stream",
    }
    if item.content_encoding is not None:
        request["ContentEncoding"] = item.content_encoding
    try:
        client.put_object(**request)
    except (ClientError, BotoCoreError) as error:
        raise DeliveryError(f"s3://{item.bucket}/{item.key}: {error}") from error


def read_segment(segment: Segment) -> list[Record]:
    """Return the segment's records. Blocks.

    Raises:
        DeliveryError: the file can't be read, or is damaged.
    """
    try:
        return list(segment.read())
    except (OSError, SpoolCorruptError) as error:
        raise DeliveryError(str(error)) from error


def retry_seconds(failures: int) -> float:
    """Return the delay after `failures` failures in a row: exponential, capped, jittered."""
    exponential = FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 16)
    return min(LONGEST_RETRY_SECONDS, exponential) * random.uniform(0.5, 1.0)


def _encode_body(config: StreamConfig, records: Iterable[Record]) -> bytes:
    delimiter = config.delimiter.encode()
    pieces = (record.data + delimiter if delimiter else record.data for record in records)
    if not config.is_gzip:
        return b"".join(pieces)
    gzip = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW_BITS)
    compressed = [gzip.compress(piece) for piece in pieces]
    return b"".join([*compressed, gzip.flush()])
