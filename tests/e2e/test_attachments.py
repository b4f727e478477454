"""Attachments through the whole stack: form, upload, command, redirect, download."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import uuid
from typing import Any

import pytest
from selenium.webdriver import Chrome

from forebay.attachments import Bucket, Upload, encode_details, find_media
from forebay.aws.events import build_event
from forebay.codec import decode, encode
from forebay.command import Command
from forebay.ids import IdSource, accepted_ms, make_id_at
from forebay.signing import Credentials
from local.credentials import ACCESS_KEY_ID, read_secret_key
from local.settings import REGION
from resources import load
from tests.fixtures.attachments import PNG, make_png, request, upload
from tests.fixtures.emulator import aws_client, wait_until
from tests.fixtures.operating import Operator
from tests.fixtures.stack import RunningStack, gzipped

JPEG = "image/jpeg"
RED, BLUE = make_png(255, 0, 0), make_png(0, 0, 255)


def add_picture(stack: RunningStack) -> str:
    """Put a picture without image; return its path."""
    path = f"/pictures/p-{uuid.uuid4().hex}"
    status = stack.wait_for_status(stack.accepted("PUT", path, {"title": "A harbour"}))
    assert status["status"] == "applied"
    return path


def get_form(stack: RunningStack, path: str, **members: Any) -> dict[str, Any]:
    reply = stack.send("POST", f"{path}/image", {"type": PNG, **members})
    assert reply.status == 201, reply.body
    document: dict[str, Any] = reply.json()
    assert reply["Location"] == document["links"]["status"]
    return document


def settle(stack: RunningStack, form: dict[str, Any]) -> str:
    """The final status of the upload's command."""
    return str(stack.wait_for_status(form["links"]["status"])["status"])


def image_of(stack: RunningStack, path: str) -> dict[str, Any] | None:
    stack.flush_cache()
    image: dict[str, Any] | None = stack.send("GET", path).json()["image"]
    return image


def test_an_upload_becomes_a_member_of_the_item_and_is_downloaded_as_it_was(
    stack: RunningStack,
) -> None:
    path = add_picture(stack)
    form = get_form(stack, path, name="Häfen & Boote.png")
    assert upload(form["upload"], RED).status == 204
    assert settle(stack, form) == "applied"

    digest = hashlib.sha256(RED).hexdigest()
    assert image_of(stack, path) == {
        "id": form["command_id"],
        "name": "Häfen & Boote.png",
        "type": PNG,
        "size": len(RED),
        "sha256": digest,
        "link": f"/v1{path}/image",
    }
    reply = stack.client.get(f"/v1{path}/image")
    assert (reply.status, reply["Cache-Control"]) == (307, "private, no-store")
    download = request("GET", reply["Location"] or "")
    assert (download.status, download.body) == (200, RED)
    assert download.headers["Content-Type"] == PNG
    disposition = download.headers["Content-Disposition"]
    assert disposition == "inline; filename*=UTF-8''H%C3%A4fen%20%26%20Boote.png"


def sign_form(
    stack: RunningStack, path: str, *, now: dt.datetime, key: str | None = None
) -> dict[str, Any]:
    """A form that the stack's key has signed at a time, for a new upload of an item."""
    bucket = stack.deployed.archive_bucket.replace("-archive-", "-files-")
    place = Bucket(bucket, REGION, stack.settings.emulator_url, 900)
    secret = key or read_secret_key(stack.settings)
    pictures = load()["pictures"]
    media = find_media(pictures, "image")
    assert media is not None
    item = Upload("pictures", path.rpartition("/")[2], "image", IdSource().make(create=False))
    fields = place.sign_upload(
        item,
        media,
        encode_details("test", None, None),
        media_type=PNG,
        credentials=Credentials(ACCESS_KEY_ID, secret, None),
        now=now,
    )
    return {"url": place.url, "fields": fields}


def test_s3_refuses_uploads_that_the_form_does_not_allow(stack: RunningStack) -> None:
    path, other = add_picture(stack), add_picture(stack)
    form = get_form(stack, path)["upload"]
    key, now = form["fields"]["key"], dt.datetime.now(dt.UTC)
    refused = {
        "another type": upload(form, RED, Content_Type=JPEG),
        "no type": upload(form, RED, Content_Type=None),
        "another item": upload(form, RED, key=key.replace(path[10:], other[10:])),
        "the claimed object": upload(form, RED, key=key.replace("uploads/", "objects/")),
        "no signature": upload(form, RED, x_amz_signature=None),
        "another caller": upload(form, RED, x_amz_meta_by="somebody"),
        "a public object": upload(form, RED, acl="public-read"),
        "an expired form": upload(sign_form(stack, path, now=now - dt.timedelta(hours=1)), RED),
        "another key": upload(sign_form(stack, path, now=now, key="guessed"), RED),
    }
    assert {name: answer.status for name, answer in refused.items()} == dict.fromkeys(refused, 403)
    large, empty = upload(form, bytes(200_001)), upload(form, b"")
    assert (large.status, b"EntityTooLarge" in large.body) == (400, True)
    assert (empty.status, b"EntityTooSmall" in empty.body) == (400, True)
    # Of the same kind as the expired one, so that one is refused for its time alone.
    assert upload(sign_form(stack, path, now=now), RED).status == 204


def test_the_upload_requested_last_wins(stack: RunningStack) -> None:
    path = add_picture(stack)
    first, second = get_form(stack, path), get_form(stack, path)
    assert upload(second["upload"], BLUE).status == 204
    assert settle(stack, second) == "applied"
    assert upload(first["upload"], RED).status == 204
    assert settle(stack, first) == "superseded"
    image = image_of(stack, path)
    assert image is not None
    assert (image["id"], image["sha256"]) == (
        second["command_id"],
        hashlib.sha256(BLUE).hexdigest(),
    )


def test_the_first_file_of_a_form_counts_and_a_repeated_event_gives_the_same_command(
    stack: RunningStack,
) -> None:
    path = add_picture(stack)
    form = get_form(stack, path)
    assert upload(form["upload"], RED).status == 204
    assert settle(stack, form) == "applied"
    assert upload(form["upload"], BLUE).status == 204
    wait_until(lambda: len(lines_of(stack, form["command_id"])) == 2, "the second event's command")
    first, second = lines_of(stack, form["command_id"])
    assert first == second
    image = image_of(stack, path)
    assert image is not None
    assert image["sha256"] == hashlib.sha256(RED).hexdigest()


def lines_of(stack: RunningStack, command_id: str) -> list[bytes]:
    """The archived lines of a command."""
    return [
        line
        for key in stack.keys("commands/")
        for line in gzip.decompress(stack.read_archived(key)).splitlines()
        if command_id.encode() in line and decode(line).id == command_id
    ]


def test_an_upload_waits_for_its_item(stack: RunningStack) -> None:
    path = f"/pictures/p-{uuid.uuid4().hex}"
    form = get_form(stack, path)
    assert upload(form["upload"], RED).status == 204
    wait_until(lambda: bool(lines_of(stack, form["command_id"])), "the upload's command")
    stack.settle()
    assert stack.send("GET", f"{path}/commands/{form['command_id']}").json()["status"] == "pending"
    assert stack.send("GET", path).status == 404

    # A put that was accepted before the form, and comes after the upload.
    older = put_before(path.rpartition("/")[2], form["command_id"])
    stack.wait_until_applied(stack.archive(f"late-{uuid.uuid4().hex}", gzipped([encode(older)])))
    assert settle(stack, form) == "applied"
    image = image_of(stack, path)
    assert image is not None
    assert image["id"] == form["command_id"]


def put_before(key: str, command_id: str) -> Command:
    """A put of a picture that is older than a command."""
    put_id = make_id_at(accepted_ms(command_id) - 1000, create=False)
    body = {"title": "Earlier", "image": None}
    return Command(put_id, "put", "pictures", key, 1, "test", None, body)


def test_an_item_is_written_with_the_attachment_that_it_had_and_with_no_other(
    stack: RunningStack,
) -> None:
    path, other = add_picture(stack), add_picture(stack)
    for place, content in ((path, RED), (other, BLUE)):
        form = get_form(stack, place)
        assert upload(form["upload"], content).status == 204
        assert settle(stack, form) == "applied"
    image, foreign = image_of(stack, path), image_of(stack, other)
    assert image is not None
    item = stack.send("GET", path).json()

    changed = {**item, "title": "A quay"}
    assert stack.wait_for_status(stack.accepted("PUT", path, changed))["status"] == "applied"
    assert image_of(stack, path) == image
    forged = [
        foreign,
        {**image, "size": image["size"] + 1},
        {**image, "type": JPEG},
        {**image, "name": "another"},
        {**image, "id": foreign["id"] if foreign else ""},
        {**image, "id": "../../objects"},
        {**image, "link": "https://example.org/"},
    ]
    for value in forged:
        for method, target in (("PUT", path), ("PATCH", path), ("POST", "/pictures")):
            body = {"image": value} if method == "PATCH" else {**item, "image": value}
            reply = stack.send(method, target, body)
            assert (reply.status, reply.json()["code"]) == (422, "validation_failed"), value
            assert [error["pointer"] for error in reply.json()["errors"]] == ["#/image"]
    operation = {"op": "patch", "resource": "pictures", "key": item["slug"]}
    results = stack.send("POST", "/commands", [{**operation, "body": {"image": foreign}}]).json()
    assert results["results"][0]["status"] == 422

    removed = stack.accepted("PATCH", path, {"image": None})
    assert stack.wait_for_status(removed)["status"] == "applied"
    stack.flush_cache()
    reply = stack.send("GET", f"{path}/image")
    assert (reply.status, reply.json()["code"]) == (404, "no_attachment")
    # The old object is kept, so the old value can be given back.
    assert stack.wait_for_status(stack.accepted("PUT", path, changed))["status"] == "applied"
    assert image_of(stack, path) == image


def test_events_without_an_upload_of_a_form_change_nothing(stack: RunningStack) -> None:
    path = add_picture(stack)
    form = get_form(stack, path)
    bucket = stack.deployed.archive_bucket.replace("-archive-", "-files-")
    name = form["upload"]["fields"]["key"]
    secret = read_secret_key(stack.settings)
    sqs = aws_client("sqs", stack.settings.emulator_url, key=secret)
    queue = sqs.get_queue_url(QueueName="forebay-local-upload-events")["QueueUrl"]
    dead = sqs.get_queue_url(QueueName="forebay-local-upload-events-dead")["QueueUrl"]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

    def count(url: str) -> int:
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)

    # S3's test event, if the stack was stopped while a function had received it.
    earlier = count(queue)
    for body in (
        build_event(bucket, name),
        build_event(bucket, name.replace("/image/", "/title/")),
        build_event(bucket, "uploads/pictures"),
        build_event(stack.deployed.archive_bucket, name),
        "no event",
    ):
        sqs.send_message(QueueUrl=queue, MessageBody=body)
    wait_until(lambda: count(queue) <= earlier, "the events are consumed", timeout_seconds=60)
    assert count(dead) == 0
    assert lines_of(stack, form["command_id"]) == []
    assert image_of(stack, path) is None


@pytest.fixture
def operator(stack: RunningStack) -> Operator:
    """An operator's shell that names the stack and has no other settings."""
    settings = stack.settings
    return Operator(
        settings.state, "", {"FOREBAY_STATE": str(settings.state), "FOREBAY_OPS_ENV": "local"}
    )


def test_verify_names_the_item_whose_object_is_missing(
    stack: RunningStack, operator: Operator
) -> None:
    stack.empty()
    path = add_picture(stack)
    form = get_form(stack, path)
    assert upload(form["upload"], RED).status == 204
    assert settle(stack, form) == "applied"
    name = form["upload"]["fields"]["key"].replace("uploads/", "objects/")
    bucket = stack.deployed.archive_bucket.replace("-archive-", "-files-")
    kept = stack.s3.get_object(Bucket=bucket, Key=name)
    stack.s3.delete_object(Bucket=bucket, Key=name)

    stack.settle()
    result = operator.done("verify", "--at", "now", code=1)
    assert result["named"] == [
        {
            "table": "public.pictures",
            "key": path.rpartition("/")[2],
            "archive": f"no object s3://{bucket}/{name}",
            "database": "image names it",
        }
    ]
    assert (result["attachments_missing"], result["attachments_checked"]) == (1, True)
    stack.s3.put_object(
        Bucket=bucket,
        Key=name,
        Body=RED,
        ContentType=PNG,
        Metadata=kept["Metadata"],
        ChecksumAlgorithm="SHA256",
    )
    result = operator.done("verify", "--at", "now")
    assert (result["attachments_missing"], result["agrees"]) == (0, True)


_UPLOAD = """
const [path, bytes, done] = arguments;
(async () => {
  const asked = await fetch(`/v1${path}/image`, {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify({type: "image/png", name: "pixel.png"}),
  });
  const form = await asked.json();
  const data = new FormData();
  for (const [name, value] of Object.entries(form.upload.fields)) data.append(name, value);
  data.append("file", new Blob([new Uint8Array(bytes)], {type: "image/png"}));
  const sent = await fetch(form.upload.url, {method: "POST", body: data});
  const status = await fetch(form.links.status, {headers: {Prefer: "wait=20"}});
  const settled = await status.json();
  const image = new Image();
  await new Promise((resolve, reject) => {
    image.onload = resolve;
    image.onerror = () => reject(new Error("the image was not shown"));
    image.src = form.links.attachment;
  });
  document.body.append(image);
  return [asked.status, sent.status, settled.status, image.naturalWidth, image.naturalHeight];
})().then(done, (error) => done(String(error)));
"""


def test_a_page_uploads_an_image_and_shows_it(stack: RunningStack, browser: Chrome) -> None:
    path = add_picture(stack)
    stack.flush_cache()
    browser.set_script_timeout(60)
    browser.get(f"http://127.0.0.1:{stack.settings.ports.gateway}/v1/")
    assert browser.execute_async_script(_UPLOAD, path, list(RED)) == [201, 204, "applied", 1, 1]
