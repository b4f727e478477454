"""The histories' S3 answers as the emulator does, on which the other tests rely."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.crossings.s3 import FakeS3
from tests.fixtures.emulator import Emulator


@pytest.fixture(params=["fake", "emulator"])
def bucket(request: pytest.FixtureRequest) -> tuple[Any, str]:
    """A client and the name of an empty bucket."""
    name = f"contract-{uuid.uuid4().hex}"
    if request.param == "fake":
        return FakeS3(name), name
    emulator: Emulator = request.getfixturevalue("emulator")
    emulator.s3.create_bucket(Bucket=name)
    return emulator.s3, name


def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[str, int]:
    """Code and status of the error that the call must raise."""
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    answer = refused.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def test_an_object_is_read_as_it_was_written(bucket: tuple[Any, str]) -> None:
    s3, name = bucket
    put = s3.put_object(Bucket=name, Key="a/b", Body=b"12345", ContentEncoding="gzip")

    got = s3.get_object(Bucket=name, Key="a/b")
    assert list(got["Body"].iter_chunks(2)) == [b"12", b"34", b"5"]
    head = s3.head_object(Bucket=name, Key="a/b")
    for answer in (got, head):
        assert (answer["ETag"], answer["ContentLength"]) == (put["ETag"], 5)
        assert answer["ContentEncoding"] == "gzip"
        assert answer["LastModified"].tzinfo is not None


def test_a_missing_object_and_a_missing_bucket_are_refused(bucket: tuple[Any, str]) -> None:
    s3, name = bucket
    assert refusal(s3.get_object, Bucket=name, Key="a") == ("NoSuchKey", 404)
    assert refusal(s3.head_object, Bucket=name, Key="a") == ("404", 404)
    assert refusal(s3.get_object, Bucket=f"{name}-2", Key="a") == ("NoSuchBucket", 404)


def test_a_conditional_write_makes_an_object_once(bucket: tuple[Any, str]) -> None:
    s3, name = bucket
    s3.put_object(Bucket=name, Key="a", Body=b"1", IfNoneMatch="*")
    again = {"Bucket": name, "Key": "a", "Body": b"2"}

    assert refusal(s3.put_object, **again, IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert s3.get_object(Bucket=name, Key="a")["Body"].read() == b"1"
    s3.put_object(**again)
    assert s3.get_object(Bucket=name, Key="a")["Body"].read() == b"2"


def test_a_listing_has_the_keys_of_a_prefix_in_order_page_by_page(
    bucket: tuple[Any, str],
) -> None:
    s3, name = bucket
    for key in ("b/2", "a/1", "b/1", "b/10", "c"):
        s3.put_object(Bucket=name, Key=key, Body=key.encode())

    page = s3.list_objects_v2(Bucket=name, Prefix="b/", MaxKeys=2)
    assert [entry["Key"] for entry in page["Contents"]] == ["b/1", "b/10"]
    assert (page["KeyCount"], page["IsTruncated"]) == (2, True)
    assert {"Size", "LastModified", "ETag"} <= set(page["Contents"][0])
    token = page["NextContinuationToken"]
    rest = s3.list_objects_v2(Bucket=name, Prefix="b/", ContinuationToken=token)
    assert [entry["Key"] for entry in rest["Contents"]] == ["b/2"]
    later = s3.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix="", StartAfter="b/1")
    assert [entry["Key"] for each in later for entry in each["Contents"]] == ["b/10", "b/2", "c"]
    assert "Contents" not in s3.list_objects_v2(Bucket=name, Prefix="d")


def test_only_the_fake_keeps_every_version() -> None:
    s3 = FakeS3()
    for content in (b"1", b"1", b"2"):
        s3.put_object(Bucket=s3.bucket, Key="commands/a", Body=content)
    ((key, first, other),) = s3.changed()
    assert (key, first.content, other.content) == ("commands/a", b"1", b"2")
