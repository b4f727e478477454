"""An in-memory S3 that keeps every written version and behaves as boto3's client does."""

# ruff: noqa: N803 - the names of boto3's arguments

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.response import StreamingBody

from tests.crossings.scheduler import Actor, Scheduler

BUCKET = "archive"
_PAGE = 1_000
#: Prefixes of objects that must never change; an import's report may change.
_IMMUTABLE = ("commands/", "rejections/", "audit/", "decisions/")


@dataclass(frozen=True)
class Version:
    """An object as a single write stored it."""

    content: bytes
    modified: dt.datetime
    encoding: str | None
    writer: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}"'

    @property
    def text(self) -> str:
        """The content as text, inflated if it is gzip."""
        is_gzip = self.content.startswith(b"\x1f\x8b")
        return (gzip.decompress(self.content) if is_gzip else self.content).decode(errors="replace")


class FakeS3:
    """A bucket; each method has the name and the answers of the boto3 client's method."""

    def __init__(self, bucket: str = BUCKET, *, began: dt.datetime | None = None) -> None:
        self.bucket = bucket
        self.versions: dict[str, list[Version]] = {}
        #: The clock; each write advances it by a second.
        self.now = began or dt.datetime(2026, 1, 5, tzinfo=dt.UTC)

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        version = self._newest(Bucket, Key, "GetObject", "NoSuchKey")
        answer = self._head(version)
        return answer | {"Body": StreamingBody(io.BytesIO(version.content), len(version.content))}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        return self._head(self._newest(Bucket, Key, "HeadObject", "404"))

    def put_object(
        self,
        *,
        Bucket: str,
        Key: str,
        Body: bytes | str,
        ContentType: str = "",  # noqa: ARG002
        ContentEncoding: str | None = None,
        Metadata: Mapping[str, str] | None = None,
        IfNoneMatch: Literal["*"] | None = None,
        IfMatch: str | None = None,
        writer: str = "",
    ) -> dict[str, Any]:
        self._check(Bucket, "PutObject")
        existing = self.versions.get(Key)
        if (IfNoneMatch is not None and existing) or (
            IfMatch is not None and (not existing or existing[-1].etag != IfMatch)
        ):
            raise _error("PutObject", "PreconditionFailed", 412)
        content = Body.encode() if isinstance(Body, str) else bytes(Body)
        self.now += dt.timedelta(seconds=1)
        stored = Version(content, self.now, ContentEncoding, writer, dict(Metadata or {}))
        self.versions.setdefault(Key, []).append(stored)
        return {"ETag": stored.etag}

    def list_objects_v2(
        self,
        *,
        Bucket: str,
        Prefix: str = "",
        StartAfter: str = "",
        MaxKeys: int = _PAGE,
        ContinuationToken: str = "",
    ) -> dict[str, Any]:
        self._check(Bucket, "ListObjectsV2")
        after = max(StartAfter, ContinuationToken)
        keys = sorted(key for key in self.versions if key.startswith(Prefix) and key > after)
        page = keys[:MaxKeys]
        answer: dict[str, Any] = {"KeyCount": len(page), "IsTruncated": len(keys) > len(page)}
        if page:
            answer["Contents"] = [self._entry(key) for key in page]
        if answer["IsTruncated"]:
            answer["NextContinuationToken"] = page[-1]
        return answer

    def get_paginator(self, name: str) -> Paginator:
        assert name == "list_objects_v2"
        return Paginator(self.list_objects_v2)

    def changed(self) -> Iterator[tuple[str, Version, Version]]:
        """Yield the archive objects that were written again with different content."""
        for key, versions in self.versions.items():
            first, *others = versions
            different = [other for other in others if other.text != first.text]
            if key.startswith(_IMMUTABLE) and different:
                yield key, first, different[0]

    def _entry(self, key: str) -> dict[str, Any]:
        version = self.versions[key][-1]
        return {
            "Key": key,
            "Size": len(version.content),
            "LastModified": version.modified,
            "ETag": version.etag,
            "StorageClass": "STANDARD",
        }

    def _newest(self, bucket: str, key: str, operation: str, code: str) -> Version:
        self._check(bucket, operation)
        if not self.versions.get(key):
            raise _error(operation, code, 404)
        return self.versions[key][-1]

    def _head(self, found: Version) -> dict[str, Any]:
        encoded = {} if found.encoding is None else {"ContentEncoding": found.encoding}
        return {
            "ContentLength": len(found.content),
            "ETag": found.etag,
            "LastModified": found.modified,
            "Metadata": dict(found.metadata),
            **encoded,
        }

    def _check(self, bucket: str, operation: str) -> None:
        if bucket != self.bucket:
            raise _error(operation, "NoSuchBucket", 404)


class Paginator:
    """The pages of a listing."""

    def __init__(self, method: Callable[..., dict[str, Any]]) -> None:
        self._method = method

    def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        while True:
            page = self._method(**arguments)
            yield page
            if not page["IsTruncated"]:
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]


class ScheduledS3:
    """The S3 client of an actor; each call waits for the scheduler."""

    def __init__(self, s3: FakeS3, scheduler: Scheduler, actor: Actor) -> None:
        self._s3 = s3
        self._scheduler = scheduler
        self._actor = actor

    def get_object(self, **arguments: Any) -> dict[str, Any]:
        return self._call("get_object", arguments)

    def head_object(self, **arguments: Any) -> dict[str, Any]:
        return self._call("head_object", arguments)

    def put_object(self, **arguments: Any) -> dict[str, Any]:
        return self._call("put_object", {**arguments, "writer": self._actor.name})

    def list_objects_v2(self, **arguments: Any) -> dict[str, Any]:
        return self._call("list_objects_v2", arguments)

    def get_paginator(self, name: str) -> Paginator:
        assert name == "list_objects_v2"
        return Paginator(self.list_objects_v2)

    def _call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        what = f"s3 {name} {arguments.get('Key', arguments.get('Prefix', ''))}"
        fault = self._scheduler.enter(self._actor, what)
        if fault == "cut":
            raise EndpointConnectionError(endpoint_url=f"s3://{BUCKET} (before {what})")
        answer: dict[str, Any] = getattr(self._s3, name)(**arguments)
        if fault == "lost":
            raise EndpointConnectionError(endpoint_url=f"s3://{BUCKET} (after {what})")
        return answer


def _error(operation: str, code: str, status: int) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": code},
            "ResponseMetadata": {
                "HTTPStatusCode": status,
                "RequestId": "",
                "HostId": "",
                "HTTPHeaders": {},
                "RetryAttempts": 0,
            },
        },
        operation,
    )
