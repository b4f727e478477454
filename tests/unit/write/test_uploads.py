"""Forms of uploads, and attachments in the JSON of writes."""

from __future__ import annotations

import base64
import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from forebay.attachments import Bucket, Claimed, Upload
from forebay.errors import TransientError
from forebay.ids import IdSource, accepted_ms
from forebay.intake.attachments import AttachmentCheck
from forebay.signing import Credentials
from lambdas.write.uploads import UploadForms
from tests.fixtures.api import NOW_MS, WriteBench, document

NOW = dt.datetime.fromtimestamp(NOW_MS / 1000, dt.UTC)
PATH = "/pictures/{key}/image"
UPLOAD = Upload("pictures", "harbour", "image", "01a1fc5d-903c-779d-961e-d3f40d76fc6e")
CLAIMED = Claimed("a.png", "image/png", 7, "00" * 32, "user:a", None, 1)
VALUE = CLAIMED.describe(UPLOAD)


@dataclass
class Objects:
    """A bucket with one object; `is_down` makes it fail."""

    found: dict[Upload, Claimed] = field(default_factory=lambda: {UPLOAD: CLAIMED})
    is_down: bool = False
    asked: list[Upload] = field(default_factory=list)

    def find(self, upload: Upload) -> Claimed | None:
        self.asked.append(upload)
        if self.is_down:
            raise TransientError("S3 is down")
        return self.found.get(upload)


def make_bench(objects: Objects | None = None) -> WriteBench:
    """A write app with a bucket."""
    forms = UploadForms(
        Bucket("files", "eu-west-1", "", 900),
        IdSource(lambda: NOW_MS),
        lambda: Credentials("AKID", "secret", "token"),
        lambda: NOW,
    )
    return WriteBench(attachments=AttachmentCheck(objects or Objects()), uploads=forms)


def test_a_form_is_for_one_upload_of_one_item() -> None:
    response = make_bench().send("POST", PATH, {"type": "image/png", "name": "ü.png"}, key="a b")

    assert response.status == 201
    form = document(response)
    item = "/v1/pictures/a%20b"
    assert form["links"] == {
        "item": item,
        "status": f"{item}/commands/{form['command_id']}",
        "attachment": f"{item}/image",
    }
    assert response.headers["Location"] == form["links"]["status"]
    assert response.headers["Cache-Control"] == "no-store"
    assert accepted_ms(form["command_id"]) == NOW_MS
    upload = form["upload"]
    assert upload["url"] == "https://files.s3.eu-west-1.amazonaws.com/"
    assert upload["max_bytes"] == 200_000
    assert upload["expires_at"] == f"{NOW + dt.timedelta(minutes=15):%Y-%m-%dT%H:%M:%SZ}"
    fields = upload["fields"]
    assert fields["key"] == f"uploads/pictures/a b/image/{form['command_id']}"
    assert fields["x-amz-meta-by"] == "anonymous"
    policy = json.loads(base64.b64decode(fields["policy"]))
    assert {"key": fields["key"]} in policy["conditions"]


def test_a_form_makes_no_command() -> None:
    bench = make_bench()
    assert bench.send("POST", PATH, {"type": "image/png"}, key="a").status == 201
    assert bench.sink.taken == []


def test_a_form_is_newer_than_the_version_that_the_client_has_seen() -> None:
    later = UPLOAD.id.replace("01a1fc5d", f"{NOW_MS + 60_000:012x}"[:8])
    response = make_bench().send("POST", PATH, {"type": "image/png"}, key="a", Read_After=later)
    assert document(response)["command_id"] > later


@pytest.mark.parametrize(
    ("content", "pointers"),
    [
        ({}, ["#/type"]),
        ({"type": "image/gif"}, ["#/type"]),
        ({"type": "image/png; charset=utf-8"}, ["#/type"]),
        ({"type": 1, "name": 1, "size": 3}, ["#/size", "#/type", "#/name"]),
        ({"type": "image/png", "name": ""}, ["#/name"]),
        ({"type": "image/png", "name": "../a"}, ["#/name"]),
        ({"type": "image/png", "name": "a\r\nb"}, ["#/name"]),
        ({"type": "image/png", "name": "ü" * 128}, ["#/name"]),
        ([], ["#"]),
    ],
)
def test_a_request_for_another_file_is_refused(content: Any, pointers: list[str]) -> None:
    response = make_bench().send("POST", PATH, content, key="a")
    assert (response.status, document(response)["code"]) == (422, "validation_failed")
    assert [error["pointer"] for error in document(response)["errors"]] == pointers


def test_other_requests_than_that_of_a_form_are_refused() -> None:
    bench, content = make_bench(), {"type": "image/png"}
    refused = [
        bench.send("POST", PATH, content, key="a/b"),
        bench.send("POST", PATH, content, key="a", media="text/plain"),
        bench.send("POST", PATH, content, key="a", query={"x": "1"}),
        bench.send("POST", PATH, content, key="a", If_Match="*"),
        bench.send("POST", PATH, content, key="a", If_None_Match="*"),
        bench.send("POST", PATH, key="a", raw="{"),
    ]
    codes = [document(response)["code"] for response in refused]
    assert codes == [
        *("bad_key", "unsupported_media_type", "unknown_parameter"),
        *("bad_header", "bad_header", "malformed_json"),
    ]


def test_without_a_bucket_there_are_no_forms_and_only_null_is_accepted() -> None:
    bench = WriteBench()
    response = bench.send("POST", PATH, {"type": "image/png"}, key="a")
    assert (response.status, document(response)["code"]) == (404, "attachments_disabled")
    item = {"title": "A harbour", "image": VALUE}
    assert bench.send("PUT", "/pictures/{key}", item, key="harbour").status == 422
    assert bench.send("PUT", "/pictures/{key}", {**item, "image": None}, key="a").status == 202


def test_a_value_is_accepted_if_s3_describes_its_object_so() -> None:
    bench = make_bench()
    item = {"title": "A harbour", "image": VALUE}
    assert bench.send("PUT", "/pictures/{key}", item, key="harbour").status == 202
    (command,) = bench.sink.commands
    assert command.body == item


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "01a1fc5d-903c-779d-961e-d3f40d76fc6f"},
        {"id": "../x"},
        {"name": None},
        {"type": "text/html"},
        {"size": 8},
        {"sha256": "11" * 32},
        {"link": "/v1/pictures/other/image"},
    ],
)
def test_a_changed_value_is_refused(changes: dict[str, Any]) -> None:
    bench = make_bench()
    body = {"image": {**VALUE, **changes}}
    response = bench.send("PATCH", "/pictures/{key}", body, key="harbour")
    assert (response.status, bench.sink.taken) == (422, [])
    assert [error["pointer"] for error in document(response)["errors"]] == ["#/image"]


def test_an_invalid_id_is_never_a_part_of_an_object_name() -> None:
    objects = Objects()
    body = {"image": {**VALUE, "id": "../../uploads/x"}}
    assert make_bench(objects).send("PATCH", "/pictures/{key}", body, key="a").status == 422
    assert objects.asked == []


def test_while_s3_is_down_nothing_is_accepted_and_the_client_repeats() -> None:
    bench = make_bench(Objects(is_down=True))
    items = [{"slug": "a", "title": "A"}, {"slug": "harbour", "title": "B", "image": VALUE}]
    response = bench.send("POST", "/pictures", items)
    assert (response.status, document(response)["code"]) == (503, "attachments_unavailable")
    assert response.headers["Retry-After"]
    assert bench.sink.taken == []
    assert bench.send("POST", "/pictures", items[:1]).status == 207
