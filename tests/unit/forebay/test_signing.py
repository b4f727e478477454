"""Signatures of addresses and forms: equal to those of botocore for the same credentials."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

import botocore.session
import pytest
from botocore.config import Config

from forebay.attachments import Bucket, Upload, encode_details
from forebay.resource import Attachment, Media
from forebay.signing import Credentials

NOW = dt.datetime(2026, 11, 21, 12, 34, 56, tzinfo=dt.UTC)
SESSION = "FwoGZXIvYXdzE/=+&:\\ with space~"
UPLOAD = Upload("pictures", "a b+ü", "image", "01a1fc5d-903c-779d-961e-d3f40d76fc6e")
VALUE = Attachment(
    id=UPLOAD.id, name="ü b.png", type="image/png", size=1, sha256="00", link=UPLOAD.link
)


def make_client(session_token: str | None, **changes: Any) -> Any:
    session = botocore.session.Session()
    session.set_credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPx", session_token)
    style = "path" if changes else "virtual"
    config = Config(signature_version="s3v4", s3={"addressing_style": style})  # type: ignore[arg-type]
    return session.create_client("s3", region_name="eu-west-1", config=config, **changes)


def at_now() -> Any:
    return patch("botocore.auth.get_current_datetime", lambda *_, **__: NOW.replace(tzinfo=None))


def make_bucket(endpoint: str = "") -> Bucket:
    return Bucket("forebay-dev-files", "eu-west-1", endpoint, 900)


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:8081"])
@pytest.mark.parametrize("session_token", [None, SESSION])
def test_a_download_is_the_address_that_botocore_signs(
    session_token: str | None, endpoint: str
) -> None:
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPx", session_token)
    client = make_client(session_token, **({"endpoint_url": endpoint} if endpoint else {}))

    ours = make_bucket(endpoint).sign_download(UPLOAD, VALUE, credentials=credentials, now=NOW)
    with at_now():
        theirs = client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": "forebay-dev-files",
                "Key": UPLOAD.object_name,
                "ResponseContentType": "image/png",
                "ResponseContentDisposition": "inline; filename*=UTF-8''%C3%BC%20b.png",
                "ResponseCacheControl": "private, max-age=900",
            },
            ExpiresIn=900,
        )

    assert urlsplit(ours)[:3] == urlsplit(theirs)[:3]
    assert dict(parse_qsl(urlsplit(ours).query)) == dict(parse_qsl(urlsplit(theirs).query))


@pytest.mark.parametrize("session_token", [None, SESSION])
def test_a_form_has_the_fields_conditions_and_signature_of_botocore(
    session_token: str | None,
) -> None:
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPx", session_token)
    details = encode_details("user:ü", "ü b.png", None)

    ours = make_bucket().sign_upload(
        UPLOAD,
        Media("image/png", max_bytes=5),
        details,
        media_type="image/png",
        credentials=credentials,
        now=NOW,
    )
    policy = json.loads(base64.b64decode(ours["policy"]))
    assert policy["expiration"] == "2026-11-21T12:49:56Z"
    with at_now():
        signed = make_client(session_token).generate_presigned_post(
            "forebay-dev-files", UPLOAD.upload_name, ExpiresIn=900
        )["fields"]
    # botocore chooses the expiration and the order itself, so its signer signs our policy.
    signature = botocore.auth.S3SigV4PostAuth(
        botocore.credentials.Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPx"),
        "s3",
        "eu-west-1",
    )
    request: Any = type("Request", (), {"context": {"timestamp": ours["x-amz-date"]}})()
    assert ours["x-amz-signature"] == signature.signature(ours["policy"], request)
    assert signed.keys() <= ours.keys()
    for name in signed.keys() - {"policy", "x-amz-signature"}:
        assert ours[name] == signed[name]
    # S3 refuses fields that no condition covers.
    named = {name for condition in policy["conditions"] if isinstance(condition, dict)
             for name in condition}  # fmt: skip
    assert named == ours.keys() - {"policy", "x-amz-signature"}
    assert policy["conditions"][-2:] == [
        ["eq", "$bucket", "forebay-dev-files"],
        ["content-length-range", 1, 5],
    ]
    assert ours["Content-Type"] == "image/png"
    assert ours["x-amz-meta-name"] == "%C3%BC%20b.png"
