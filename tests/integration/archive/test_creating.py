"""Objects of the archive are created exactly once, on a real S3 API."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from uuid import uuid4

import pytest
from botocore.stub import Stubber
from mypy_boto3_s3 import S3Client

from forebay.aws.archive import Archive
from forebay.errors import TransientError
from forebay.ids import IdSource
from tests.fixtures.emulator import Emulator


@pytest.fixture
def archive(emulator: Emulator) -> Archive:
    bucket = f"creating-{uuid4().hex}"
    emulator.s3.create_bucket(Bucket=bucket)
    return Archive(emulator.s3, bucket)


def stored(archive: Archive, key: str) -> bytes:
    return b"".join(archive.read(key))


def test_exactly_one_of_concurrent_writes_of_one_key_creates_the_object(archive: Archive) -> None:
    contents = [f"{number}\n".encode() for number in range(16)]
    for key in map(str, range(10)):
        with ThreadPoolExecutor(len(contents)) as pool:
            created = list(
                pool.map(lambda text, key=key: archive._create(key, text, gzipped=False), contents)
            )
        assert created.count(True) == 1
        assert stored(archive, key) == contents[created.index(True)]


def test_an_object_of_commands_is_never_overwritten(archive: Archive) -> None:
    command_id = IdSource().make(create=False)

    assert archive.write_import([b"first\n"], command_id, {})
    assert not archive.write_import([b"second\n"], command_id, {})
    archive.write_commands([b"first\n"], command_id)
    archive.write_commands([b"second\n"], command_id)

    texts = [
        gzip.decompress(stored(archive, archive_object.key))
        for archive_object in archive.list("commands/")
    ]
    assert texts == [b"first\n", b"first\n"]


@contextmanager
def stub(client: S3Client, *answers: HTTPStatus) -> Iterator[Stubber]:
    """An S3 client that answers the requests with these statuses in turn, and expects no other."""
    with Stubber(client) as stubber:
        for status in answers:
            if status == HTTPStatus.OK:
                stubber.add_response("put_object", {})
            else:
                code = "ConditionalRequestConflict" if status == HTTPStatus.CONFLICT else "Other"
                stubber.add_client_error("put_object", code, http_status_code=status)
        yield stubber


@pytest.mark.parametrize("last", [HTTPStatus.OK, HTTPStatus.PRECONDITION_FAILED])
def test_a_conflict_with_a_concurrent_write_is_tried_again(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, last: HTTPStatus
) -> None:
    monkeypatch.setattr("forebay.aws.archive._CONFLICT_SECONDS", 60.0)
    client = emulator.s3
    with stub(client, HTTPStatus.CONFLICT, HTTPStatus.CONFLICT, last) as stubber:
        created = Archive(client, "bucket")._create("key", b"", gzipped=False)
        stubber.assert_no_pending_responses()
    assert created is (last == HTTPStatus.OK)


def test_a_conflict_that_stays_is_transient(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.aws.archive._CONFLICT_SECONDS", -1.0)
    client = emulator.s3
    with (
        stub(client, HTTPStatus.CONFLICT),
        pytest.raises(TransientError, match="ConditionalRequestConflict"),
    ):
        Archive(client, "bucket")._create("key", b"", gzipped=False)
