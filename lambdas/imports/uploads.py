"""Uploads of attachments: turns each into an object that a row may name, and its patch command."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from typing import IO, Any, Final, Protocol

from forebay.attachments import UPLOADS_PREFIX, Claimed, Upload, UploadUnknownError, find_media
from forebay.aws.attachments import OpenUpload
from forebay.aws.events import EventRefusedError, iterate_keys
from forebay.codec import encode
from forebay.command import Command
from forebay.errors import ForebayError, TransientError
from forebay.intake.acceptance import Acceptor
from forebay.intake.commands import Line
from forebay.log import Log
from forebay.metrics import UPLOADS_CLAIMED, UPLOADS_REFUSED
from forebay.resource.spec import ResourceSpec

#: Larger contents are kept in a file, so that the function's memory is bounded.
_IN_MEMORY_BYTES: Final = 16 * 1024 * 1024


class Store(Protocol):
    """The bucket of attachments."""

    bucket: str

    def find(self, upload: Upload) -> Claimed | None:
        """The object that a row may name."""

    def open(self, upload: Upload) -> OpenUpload | None:
        """A client's upload."""

    def create(self, upload: Upload, claimed: Claimed, content: IO[bytes]) -> bool:
        """Store the object that the row will name; False if there is one."""

    def delete_upload(self, upload: Upload) -> None:
        """Delete a claimed upload."""


class _RefusalError(Exception):
    """An event or an upload that becomes no command, however often it is delivered."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class UploadClaims:
    """Claims the uploads that messages name.

    The command is made from the claimed object alone, which is created once. So a repeated event,
    and another upload with the same form, give the same command again.
    """

    def __init__(
        self,
        *,
        resources: Mapping[str, ResourceSpec],
        store: Store,
        acceptor: Acceptor,
        log: Log,
    ) -> None:
        self._resources = resources
        self._store = store
        self._acceptor = acceptor
        self._log = log

    def handle(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Claim the uploads of an SQS batch; the answer names the messages to deliver again."""
        failures = []
        for message in event["Records"]:
            try:
                self._handle_message(message["body"])
            except ForebayError as exc:
                self._log.event("upload_failed", level="WARNING", reason=str(exc))
                failures.append({"itemIdentifier": message["messageId"]})
        return {"batchItemFailures": failures}

    def _handle_message(self, body: str) -> None:
        try:
            names = list(iterate_keys(body, bucket=self._store.bucket, prefix=UPLOADS_PREFIX))
        except EventRefusedError as exc:
            self._refuse(_RefusalError("not_an_upload", str(exc)), "")
            return
        for name in names:
            try:
                self._claim(name)
            except _RefusalError as refusal:
                self._refuse(refusal, name)

    def _claim(self, name: str) -> None:
        """Make the command of an upload, and store it; then delete the upload.

        An upload that stays behind is claimed again by the next sweep, with the same command.

        Raises:
            _RefusalError: it is no upload, or not an allowed one.
            TransientError: S3 or the pipeline did not answer.
        """
        try:
            upload = Upload.parse(name, self._resources)
        except UploadUnknownError as exc:
            raise _RefusalError("not_an_upload", str(exc)) from None
        claimed = self._store.find(upload) or self._create(upload)
        command = self._make_command(upload, claimed)
        if self._acceptor.accept([Line(command, encode(command))]).not_accepted:
            raise TransientError(f"the command of {name} was not accepted")
        self._store.delete_upload(upload)
        self._log.event(
            "upload_claimed",
            metrics={UPLOADS_CLAIMED: 1},
            object=ascii(upload.object_name)[1:-1],
            command=upload.id,
            bytes=claimed.size,
        )

    def _create(self, upload: Upload) -> Claimed:
        """Copy an upload to where no client can write."""
        opened = self._store.open(upload)
        if opened is None:
            # A repeated event may have been handled since the first look.
            claimed = self._store.find(upload)
            if claimed is not None:
                return claimed
            raise _RefusalError("upload_missing", "the bucket has no such upload")
        try:
            self._check(upload, opened)
        except _RefusalError:
            self._store.delete_upload(upload)
            raise
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as content:
            sha256 = _copy(opened, content)
            spec = self._resources[upload.resource]
            claimed = Claimed(
                name=opened.name,
                type=opened.type,
                size=opened.size,
                sha256=sha256,
                by=opened.by,
                trace=opened.trace,
                schema=spec.schema_version,
            )
            content.seek(0)
            if self._store.create(upload, claimed, content):
                return claimed
        existing = self._store.find(upload)
        if existing is None:
            raise TransientError(f"{upload.object_name} is being written by another run")
        return existing

    def _check(self, upload: Upload, opened: OpenUpload) -> None:
        media = find_media(self._resources[upload.resource], upload.field)
        assert media is not None  # noqa: S101 - `Upload.parse` has found it
        if opened.type not in media.types:
            raise _RefusalError("type_not_allowed", f"{opened.type[:80]!a} is not an allowed type")
        if not 1 <= opened.size <= media.max_bytes:
            raise _RefusalError(
                "size_not_allowed", f"{opened.size} bytes; the maximum is {media.max_bytes}"
            )

    @staticmethod
    def _make_command(upload: Upload, claimed: Claimed) -> Command:
        return Command(
            id=upload.id,
            op="patch",
            resource=upload.resource,
            key=upload.key,
            schema=claimed.schema,
            by=claimed.by,
            trace=claimed.trace,
            body={upload.field: claimed.describe(upload)},
        )

    def _refuse(self, refusal: _RefusalError, name: str) -> None:
        self._log.event(
            "upload_refused",
            level="WARNING",
            metrics={UPLOADS_REFUSED: 1},
            object=ascii(name)[1:-1],
            reason=refusal.reason,
            detail=refusal.detail,
        )


def _copy(opened: OpenUpload, content: IO[bytes]) -> str:
    """Copy the content to a file; return its SHA-256.

    Raises:
        TransientError: S3 broke off.
    """
    digest = hashlib.sha256()
    for block in opened.read_blocks():
        digest.update(block)
        content.write(block)
    return digest.hexdigest()
