"""The objects of attachments: their names in the bucket, their addresses, and the fields' values.

A client uploads to `uploads/<resource>/<key>/<field>/<id>`. The object that a row names is
`objects/…` with the same rest. Clients can't write there, and no part of Forebay overwrites or
deletes it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

from forebay.command import KeyValue
from forebay.errors import SettingsError
from forebay.ids import is_command_id
from forebay.keys import read_key
from forebay.problem import ProblemError
from forebay.resource.attachment import Attachment, Media
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX
from forebay.settings import number, required
from forebay.signing import Credentials, Signer

UPLOADS_PREFIX: Final = "uploads/"
OBJECTS_PREFIX: Final = "objects/"
DEFAULT_VALID_SECONDS: Final = 900
#: Bytes of a file's name, as in the file systems of most clients. S3 allows 2 KiB of metadata, and
#: a byte of the name takes up to three there.
MAX_NAME_BYTES: Final = 255

#: Metadata are ASCII: S3 encodes other characters in a way that clients decode differently.
_SAFE: Final = ":@/+=,"
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_NAME_PARTS: Final = 4
#: Types that a browser shows without running them. All others are saved as a file.
_SHOWN: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"})


class UploadUnknownError(Exception):
    """An object's name is not the name of an upload of a declared attachment."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload: the attachment that it is for, and its id."""

    resource: str
    key: KeyValue
    field: str
    #: Of the command that the upload becomes.
    id: str

    @classmethod
    def parse(cls, name: str, resources: Mapping[str, ResourceSpec]) -> Self:
        """The upload with this object below `uploads/`.

        Raises:
            UploadUnknownError: it is no upload of a declared attachment.
        """
        parts = name.removeprefix(UPLOADS_PREFIX).split("/")
        if not name.startswith(UPLOADS_PREFIX) or len(parts) != _NAME_PARTS:
            raise UploadUnknownError("the name has another form than that of an upload")
        path, key, field, upload_id = parts
        spec = resources.get(path)
        if spec is None or find_media(spec, field) is None:
            raise UploadUnknownError(f"{path[:80]!a} has no attachment {field[:80]!a}")
        if not is_command_id(upload_id):
            raise UploadUnknownError(f"{upload_id[:80]!a} is not a command id")
        try:
            return cls(path, read_key(spec, key), field, upload_id)
        except ProblemError as exc:
            raise UploadUnknownError(exc.problem.detail) from None

    @property
    def upload_name(self) -> str:
        """The object that the client uploads."""
        return UPLOADS_PREFIX + self._rest

    @property
    def object_name(self) -> str:
        """The object that the row names."""
        return OBJECTS_PREFIX + self._rest

    @property
    def link(self) -> str:
        """The path of the download, which is always that of the present attachment."""
        return f"{API_PREFIX}/{self.resource}/{quote(str(self.key), safe='')}/{self.field}"

    @property
    def _rest(self) -> str:
        return f"{self.resource}/{self.key}/{self.field}/{self.id}"


@dataclass(frozen=True, slots=True)
class Claimed:
    """The properties of a claimed object, from which its command is made."""

    name: str | None
    type: str
    size: int
    sha256: str
    #: The caller that requested the upload.
    by: str
    trace: str | None
    #: The schema version of the command.
    schema: int

    def describe(self, upload: Upload) -> Attachment:
        """The field's value."""
        return Attachment(
            id=upload.id,
            name=self.name,
            type=self.type,
            size=self.size,
            sha256=self.sha256,
            link=upload.link,
        )


@dataclass(frozen=True, slots=True)
class Bucket:
    """The bucket of the attachments, as clients reach it."""

    name: str
    region: str
    #: The address of an S3 that is not AWS's; empty for AWS.
    endpoint: str
    #: How long a form or a link is valid.
    valid_seconds: int

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Self | None:
        """Read FOREBAY_ATTACHMENTS_BUCKET and the related variables; None without a bucket.

        Raises:
            SettingsError: a variable is missing or invalid.
        """
        name = environment.get("FOREBAY_ATTACHMENTS_BUCKET", "")
        if not name:
            return None
        seconds = int(
            number(environment, "FOREBAY_ATTACHMENTS_VALID_SECONDS", DEFAULT_VALID_SECONDS)
        )
        if seconds < 1:
            raise SettingsError("FOREBAY_ATTACHMENTS_VALID_SECONDS must be at least 1")
        return cls(
            name,
            required(environment, "AWS_REGION"),
            environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL", ""),
            seconds,
        )

    @property
    def url(self) -> str:
        """The bucket's address, with a slash at its end."""
        return f"{self._scheme}://{self._host}{self._path}"

    def sign_upload(
        self,
        upload: Upload,
        media: Media,
        details: Mapping[str, str],
        *,
        media_type: str,
        credentials: Credentials,
        now: dt.datetime,
    ) -> dict[str, str]:
        """The fields of the form for an upload.

        Args:
            upload: the upload; the form has room for no other.
            media: bounds the size.
            details: the object's metadata, in ASCII.
            media_type: the only type that the form accepts.
            credentials: sign the form.
            now: begins its validity.
        """
        fields = {
            "key": upload.upload_name,
            "Content-Type": media_type,
            **{f"x-amz-meta-{name}": value for name, value in details.items()},
        }
        conditions: list[list[str | int]] = [
            ["eq", "$bucket", self.name],
            ["content-length-range", 1, media.max_bytes],
        ]
        expires = now + dt.timedelta(seconds=self.valid_seconds)
        return self._signer(credentials).sign_form(fields, conditions, now=now, expires=expires)

    def sign_download(
        self, upload: Upload, value: Attachment, *, credentials: Credentials, now: dt.datetime
    ) -> str:
        """The address of the object that a row names, which S3 answers with the declared type."""
        request = {
            # Answers of the bucket can't have X-Content-Type-Options.
            "response-content-type": value["type"],
            "response-content-disposition": _format_disposition(value),
            "response-cache-control": f"private, max-age={self.valid_seconds}",
        }
        signed = self._signer(credentials).presign(
            self._host,
            request,
            now=now,
            seconds=self.valid_seconds,
            path=self._path + quote(upload.object_name, safe="/~"),
            body_hash=_UNSIGNED,
        )
        return f"{self._scheme}://{signed}"

    def _signer(self, credentials: Credentials) -> Signer:
        return Signer("s3", self.region, credentials)

    @property
    def _scheme(self) -> str:
        return urlsplit(self.endpoint).scheme if self.endpoint else "https"

    @property
    def _host(self) -> str:
        if self.endpoint:
            return urlsplit(self.endpoint).netloc
        suffix = ".cn" if self.region.startswith("cn-") else ""
        return f"{self.name}.s3.{self.region}.amazonaws.com{suffix}"

    @property
    def _path(self) -> str:
        return f"/{self.name}/" if self.endpoint else "/"


def encode_details(by: str, name: str | None, trace: str | None) -> dict[str, str]:
    """The metadata of an upload, in ASCII; `decode_detail` reads them."""
    return {
        "by": quote(by, safe=_SAFE),
        **({} if name is None else {"name": quote(name, safe=_SAFE)}),
        **({} if trace is None else {"trace": trace}),
    }


def decode_detail(value: str | None) -> str | None:
    """The text in an entry of the metadata; None if there is no such entry."""
    return None if value is None else unquote(value)


def find_media(spec: ResourceSpec, field: str) -> Media | None:
    """The mark of the resource's attachment of this name; None if there is none."""
    column = spec.column(field)
    return None if column is None else column.media


def _format_disposition(value: Attachment) -> str:
    """`Content-Disposition` (RFC 6266), with any name in its ASCII form."""
    kind = "inline" if value["type"] in _SHOWN else "attachment"
    name = value["name"]
    return kind if name is None else f"{kind}; filename*=UTF-8''{quote(name, safe='')}"
