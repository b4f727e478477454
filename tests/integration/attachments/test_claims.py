"""Claims of uploads on a real S3 API: what becomes a command, and what does not."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from typing import IO, Any
from uuid import uuid4

import pytest
from mypy_boto3_s3 import S3Client

import resources
from forebay.attachments import UPLOADS_PREFIX, Claimed, Upload, encode_details
from forebay.aws.archive import Archive
from forebay.aws.attachments import AttachmentStore, OpenUpload
from forebay.aws.events import build_event
from forebay.errors import TransientError
from forebay.ids import IdSource
from forebay.intake.acceptance import Acceptor
from forebay.log import Log
from lambdas.imports.uploads import UploadClaims
from tests.fixtures.api import RecordingSink, RecordingStore
from tests.fixtures.emulator import Emulator

CONTENT, OTHER = b"\x89PNG first", b"\x89PNG second"
IDS = IdSource()


@dataclass
class Bench:
    """A bucket and the claims of its uploads."""

    s3: S3Client
    store: AttachmentStore
    sink: RecordingSink = field(default_factory=RecordingSink)
    archive: RecordingStore = field(default_factory=RecordingStore)

    @property
    def claims(self) -> UploadClaims:
        log = Log("imports")
        return UploadClaims(
            resources=resources.load(),
            store=self.store,
            acceptor=Acceptor(self.sink, self.archive, log),
            log=log,
        )

    def put(self, upload: Upload, content: bytes = CONTENT, **changes: Any) -> None:
        """Store an upload, as S3 stores it after a form."""
        details = encode_details("user:ä", "ü.png", None)
        arguments = {"ContentType": "image/png", "Metadata": details, **changes}
        self.s3.put_object(
            Bucket=self.store.bucket, Key=upload.upload_name, Body=content, **arguments
        )

    def list_uploads(self) -> list[str]:
        """The uploads that are neither claimed nor refused."""
        return [upload.key for upload in Archive(self.s3, self.store.bucket).list(UPLOADS_PREFIX)]

    def tell(self, name: str, *, bucket: str | None = None) -> dict[str, Any]:
        """Deliver the event of an object."""
        body = build_event(bucket or self.store.bucket, name)
        return self.claims.handle({"Records": [{"messageId": "m", "body": body}]})

    def names(self) -> list[str]:
        return list(self.store.list_names("pictures"))


def new_upload(key: str = "harbour & quay+ü") -> Upload:
    return Upload("pictures", key, "image", IDS.make(create=False))


@pytest.fixture
def bench(emulator: Emulator) -> Bench:
    bucket = f"files-{uuid4().hex}"
    emulator.s3.create_bucket(Bucket=bucket)
    return Bench(emulator.s3, AttachmentStore(emulator.s3, bucket))


DELIVERED: dict[str, Any] = {"batchItemFailures": []}


def test_an_upload_becomes_a_patch_with_the_facts_of_its_object(bench: Bench) -> None:
    upload = new_upload()
    bench.put(upload)

    assert bench.tell(upload.upload_name) == DELIVERED

    (command,) = bench.sink.commands
    assert (command.id, command.op, command.resource, command.key) == (
        *(upload.id, "patch", "pictures"),
        "harbour & quay+ü",
    )
    assert (command.by, command.schema) == ("user:ä", 1)
    assert command.body == {
        "image": {
            "id": upload.id,
            "name": "ü.png",
            "type": "image/png",
            "size": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "link": "/v1/pictures/harbour%20%26%20quay%2B%C3%BC/image",
        }
    }
    assert bench.names() == [upload.object_name]
    assert bench.list_uploads() == []


def test_a_repeated_event_gives_the_same_line_even_after_the_upload_has_expired(
    bench: Bench,
) -> None:
    upload = new_upload()
    bench.put(upload)
    bench.tell(upload.upload_name)
    bench.put(upload, OTHER, ContentType="image/jpeg")
    bench.tell(upload.upload_name)
    assert bench.list_uploads() == []
    bench.tell(upload.upload_name)

    assert len(bench.sink.taken) == 3
    assert len(set(bench.sink.taken)) == 1


class Barrier(AttachmentStore):
    """A bucket in which creations wait until two have come."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        super().__init__(client, bucket)
        self.together = threading.Barrier(2, timeout=20)

    def create(self, upload: Upload, claimed: Claimed, content: IO[bytes]) -> bool:
        self.together.wait()
        return super().create(upload, claimed, content)


def test_two_events_at_once_give_one_command_although_the_upload_has_changed(
    bench: Bench,
) -> None:
    upload = new_upload()
    store = Barrier(bench.s3, bench.store.bucket)
    bench.store = store
    bench.put(upload)
    first = threading.Thread(target=lambda: bench.tell(upload.upload_name))
    first.start()
    while store.together.n_waiting == 0:
        assert first.is_alive()
    bench.put(upload, OTHER)
    bench.tell(upload.upload_name)
    first.join()

    assert len(bench.sink.taken) == 2
    assert len(set(bench.sink.taken)) == 1
    (command,) = set(map(repr, bench.sink.commands))
    claimed = store.find(upload)
    assert claimed is not None
    assert claimed.sha256 in command


@pytest.mark.parametrize(
    ("content", "changes"),
    [
        (CONTENT, {"ContentType": "text/html"}),
        (CONTENT, {"ContentType": "image/png; charset=x"}),
        (b"", {}),
        (bytes(200_001), {}),
    ],
)
def test_an_upload_that_the_declaration_does_not_allow_becomes_no_command(
    bench: Bench,
    content: bytes,
    changes: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As after a release that allows less than the form did."""
    upload = new_upload()
    bench.put(upload, content, **changes)
    assert bench.tell(upload.upload_name) == DELIVERED
    assert (bench.sink.taken, bench.names(), bench.list_uploads()) == ([], [], [])
    assert '"UploadsRefused":1' in capsys.readouterr().out


def test_a_forged_event_does_nothing_and_is_counted(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    upload, other = new_upload(), new_upload("other")
    bench.put(upload)
    elsewhere = f"elsewhere-{uuid4().hex}"
    bench.s3.create_bucket(Bucket=elsewhere)
    bench.s3.put_object(Bucket=elsewhere, Key=upload.upload_name, Body=CONTENT)
    forged = [
        (other.upload_name, None),
        (upload.object_name, None),
        (upload.upload_name.replace("/image/", "/title/"), None),
        (upload.upload_name.replace("pictures", "cities"), None),
        (upload.upload_name, elsewhere),
    ]
    for name, bucket in forged:
        assert bench.tell(name, bucket=bucket) == DELIVERED
    bad = {"messageId": "m", "body": "no event"}
    assert bench.claims.handle({"Records": [bad]}) == DELIVERED

    assert (bench.sink.taken, bench.names()) == ([], [])
    assert bench.list_uploads() == [upload.upload_name]
    assert capsys.readouterr().out.count('"UploadsRefused":1') == len(forged) + 1


def test_a_command_that_is_not_accepted_is_delivered_again(bench: Bench) -> None:
    upload = new_upload()
    bench.put(upload)
    bench.sink.refuse, bench.archive.down = {0}, True
    assert bench.tell(upload.upload_name) == {"batchItemFailures": [{"itemIdentifier": "m"}]}
    assert bench.list_uploads() == [upload.upload_name]
    bench.archive.down = False
    assert bench.tell(upload.upload_name) == DELIVERED
    assert len(bench.archive.taken) == 1


class Overtaken(AttachmentStore):
    """A bucket in which another run claims an upload between the two looks of this run."""

    def __init__(self, client: S3Client, bucket: str, other: UploadClaims) -> None:
        super().__init__(client, bucket)
        self.other = other

    def open(self, upload: Upload) -> OpenUpload | None:
        body = build_event(self.bucket, upload.upload_name)
        assert self.other.handle({"Records": [{"messageId": "o", "body": body}]}) == DELIVERED
        return super().open(upload)


def test_an_upload_that_another_run_has_just_claimed_is_not_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = new_upload()
    bench.put(upload)
    bench.store = Overtaken(bench.s3, bench.store.bucket, bench.claims)
    assert bench.tell(upload.upload_name) == DELIVERED
    assert "upload_refused" not in capsys.readouterr().out
    assert len(bench.sink.taken) == 2
    assert len(set(bench.sink.taken)) == 1


class Keeping(AttachmentStore):
    """A bucket that deletes no upload until it is told to."""

    is_down = True

    def delete_upload(self, upload: Upload) -> None:
        if self.is_down:
            raise TransientError("S3 does not answer")
        super().delete_upload(upload)


def test_a_claimed_upload_that_could_not_be_deleted_gives_the_same_command_again(
    bench: Bench,
) -> None:
    upload = new_upload()
    bench.store = store = Keeping(bench.s3, bench.store.bucket)
    bench.put(upload)
    assert bench.tell(upload.upload_name) == {"batchItemFailures": [{"itemIdentifier": "m"}]}
    assert bench.list_uploads() == [upload.upload_name]
    store.is_down = False
    assert bench.tell(upload.upload_name) == DELIVERED
    assert bench.list_uploads() == []
    assert len(bench.sink.taken) == 2
    assert len(set(bench.sink.taken)) == 1


def test_a_request_to_a_bucket_that_does_not_answer_is_repeated(emulator: Emulator) -> None:
    upload = new_upload()
    bench = Bench(emulator.s3, AttachmentStore(emulator.s3, f"missing-{uuid4().hex}"))
    assert bench.tell(upload.upload_name) == {"batchItemFailures": [{"itemIdentifier": "m"}]}
