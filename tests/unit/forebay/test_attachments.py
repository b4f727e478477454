"""Attachments in declarations, the names of their objects, and the headers of downloads."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import Field

from forebay.attachments import (
    Bucket,
    Upload,
    UploadUnknownError,
    decode_detail,
    encode_details,
)
from forebay.errors import DeclarationError, SettingsError
from forebay.resource import Attachment, Indexed, Key, Media, Resource
from forebay.resource.attachment import MAX_BYTES
from forebay.signing import Credentials
from resources import load

UPLOAD_ID = "01a1fc5d-903c-779d-961e-d3f40d76fc6e"
PNG = Media("image/png")


def declare(annotation: Any, *, name: str = "image", key: Any = None) -> type[Resource]:
    annotations = {"code": key or Annotated[int, Key()], name: annotation}
    namespace = {"__annotations__": annotations, "__module__": __name__}
    return type("Thing", (Resource,), namespace, path="things")


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Attachment | None, "requires Media"),
        (Annotated[Attachment, PNG], r"write Attachment \| None"),
        (Annotated[str, PNG], "is for a field of the type Attachment"),
        (Annotated[Attachment | None, Media], "with the allowed types"),
        (Annotated[Attachment | None, Media()], "at least one media type"),
        (Annotated[Attachment | None, Media("PNG")], "'PNG' is not a media type"),
        (Annotated[Attachment | None, Media("image/png; q=1")], "is not a media type"),
        (Annotated[Attachment | None, Media("image/png", max_bytes=0)], "max_bytes must be 1"),
        (Annotated[Attachment | None, Media("a/b", max_bytes=MAX_BYTES + 1)], "max_bytes must be"),
        (Annotated[Attachment | None, PNG, Indexed("contains")], "can't be indexed"),
    ],
)
def test_a_declaration_that_can_not_work_is_refused(annotation: Any, reason: str) -> None:
    with pytest.raises(DeclarationError, match=reason):
        declare(annotation)


def test_names_that_have_no_place_in_paths_and_objects_are_refused() -> None:
    attachment = Annotated[Attachment | None, PNG]
    with pytest.raises(DeclarationError, match="path of other routes"):
        declare(attachment, name="commands")
    with pytest.raises(DeclarationError, match="max_length of at most 200"):
        declare(attachment, key=Annotated[str, Field(max_length=201), Key()])


def test_the_longest_key_fits_the_name_of_an_object() -> None:
    upload = Upload("r" * 48, "\U0001f6a2" * 200, "f" * 48, UPLOAD_ID)
    assert len(upload.upload_name.encode()) <= 1024
    assert len(upload.object_name.encode()) <= 1024


def test_an_upload_is_recognised_by_its_name() -> None:
    upload = Upload("pictures", "a b+ü", "image", UPLOAD_ID)
    assert Upload.parse(upload.upload_name, load()) == upload


@pytest.mark.parametrize(
    "name",
    [
        f"objects/pictures/a/image/{UPLOAD_ID}",
        f"uploads/pictures/a/image/x/{UPLOAD_ID}",
        f"uploads/pictures/a/{UPLOAD_ID}",
        f"uploads/pictures/a/title/{UPLOAD_ID}",
        f"uploads/cities/1/image/{UPLOAD_ID}",
        f"uploads/nothing/1/image/{UPLOAD_ID}",
        f"uploads/pictures//image/{UPLOAD_ID}",
        f"uploads/pictures/../image/{UPLOAD_ID}",
        "uploads/pictures/a/image/6f0d4b8e-3a55-4c2c-9d3e-0d8f3c2b7a11",
        "uploads/pictures/a/image/",
    ],
)
def test_no_other_object_is_an_upload(name: str) -> None:
    with pytest.raises(UploadUnknownError):
        Upload.parse(name, load())


@pytest.mark.parametrize("text", ["plain", "ü/é", "\U0001f6a2", "100%", 'a"b\\c', " "])
def test_metadata_are_ascii_and_keep_the_text(text: str) -> None:
    details = encode_details(text, text, None)
    assert all(value.isascii() for value in details.values())
    assert (decode_detail(details["by"]), decode_detail(details["name"])) == (text, text)


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [
        ("image/png", "inline"),
        ("image/jpeg", "inline"),
        ("image/svg+xml", "attachment"),
        ("text/html", "attachment"),
        ("application/pdf", "attachment"),
    ],
)
def test_only_types_that_a_browser_does_not_run_are_shown(media_type: str, kind: str) -> None:
    upload = Upload("pictures", "a", "image", UPLOAD_ID)
    value = Attachment(
        id=UPLOAD_ID, name=None, type=media_type, size=1, sha256="", link=upload.link
    )
    bucket = Bucket("files", "eu-west-1", "", 60)
    url = bucket.sign_download(
        upload, value, credentials=Credentials("a", "b", None), now=dt.datetime.now(dt.UTC)
    )
    query = parse_qs(urlsplit(url).query)
    assert query["response-content-disposition"] == [kind]
    assert query["response-content-type"] == [media_type]
    assert query["response-cache-control"] == ["private, max-age=60"]


def test_the_settings_are_complete_or_absent() -> None:
    assert Bucket.from_env({}) is None
    with pytest.raises(SettingsError, match="AWS_REGION"):
        Bucket.from_env({"FOREBAY_ATTACHMENTS_BUCKET": "files"})
    variables = {"FOREBAY_ATTACHMENTS_BUCKET": "files", "AWS_REGION": "cn-north-1"}
    bucket = Bucket.from_env(variables)
    assert bucket is not None
    assert bucket.url == "https://files.s3.cn-north-1.amazonaws.com.cn/"
    assert bucket.valid_seconds == 900
    with pytest.raises(SettingsError, match="at least 1"):
        Bucket.from_env({**variables, "FOREBAY_ATTACHMENTS_VALID_SECONDS": "0"})
