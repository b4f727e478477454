"""Expand, move, contract: the previous release's code works with this release's schema.

It still runs while a deployment replaces it, and again after a roll-back (docs/migrations.md).
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from forebay.aws.events import build_event
from tests.fixtures.api import event
from tests.fixtures.emulator import REGION, Emulator
from tests.fixtures.previous import PreviousRelease
from tests.fixtures.tables import Database

pytestmark = pytest.mark.xdist_group("previous_release")

KEY = "3128760"
CITY = {
    "name": "Barcelona",
    "country_code": "ES",
    "latitude": 41.38879,
    "longitude": 2.15899,
    "population": 1_620_343,
    "timezone": "Europe/Madrid",
}


class Deployment:
    """Functions of the previous release over this release's tables."""

    def __init__(self, release: PreviousRelease, database: Database, emulator: Emulator) -> None:
        self._release = release
        self._s3 = emulator.s3
        self._bucket = f"archive-{uuid.uuid4().hex}"
        self._s3.create_bucket(Bucket=self._bucket)
        self._variables = {
            "AWS_ENDPOINT_URL": emulator.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "FOREBAY_ENV": "test",
            "FOREBAY_DATABASE_URL": database.url,
            "FOREBAY_REPLICA_URL": database.url,
            "FOREBAY_AUTHORIZATION": "none",
            "FOREBAY_ARCHIVE_BUCKET": self._bucket,
            "FOREBAY_QUEUE_URL": "http://127.0.0.1:1/queue",
            # There is no such stream, so every write goes straight to the archive. Releases with
            # support for a single stream read the first name.
            "FOREBAY_STREAM": "none",
            "FOREBAY_STREAMS": "none",
        }

    def call(self, function: str, asked: dict[str, Any]) -> dict[str, Any]:
        return self._release.call(function, asked, self._variables)

    def write(self, method: str, body: dict[str, Any] | None = None) -> None:
        """Send a write, which is accepted and archived, and deliver its event to the consumer."""
        before = self._keys()
        answer = self.call(
            "write",
            event(
                method,
                "/cities/{key}",
                path={"key": KEY},
                headers={"Content-Type": "application/json"},
                body=None if body is None else json.dumps(body),
            ),
        )
        assert answer["statusCode"] == 202, answer
        (key,) = self._keys() - before
        message = {
            "messageId": "1",
            "body": build_event(self._bucket, key),
            "attributes": {"ApproximateReceiveCount": "1"},
        }
        assert self.call("consumer", {"Records": [message]}) == {"batchItemFailures": []}

    def read(self) -> dict[str, Any]:
        return self.call("read", event("GET", "/cities/{key}", path={"key": KEY}))

    def _keys(self) -> set[str]:
        listed = self._s3.list_objects_v2(Bucket=self._bucket, Prefix="commands/")
        return {archive_object["Key"] for archive_object in listed.get("Contents", [])}


@pytest.fixture
def deployment(
    previous_release: PreviousRelease, database: Database, emulator: Emulator
) -> Deployment:
    return Deployment(previous_release, database, emulator)


def test_the_previous_release_writes_applies_and_reads_on_the_new_schema(
    deployment: Deployment,
) -> None:
    deployment.write("PUT", CITY)
    first = deployment.read()
    deployment.write("PUT", {**CITY, "population": 1})
    second = deployment.read()
    deployment.write("DELETE")

    assert first["statusCode"] == second["statusCode"] == 200
    assert json.loads(first["body"])["population"] == CITY["population"]
    assert json.loads(second["body"])["population"] == 1
    assert deployment.read()["statusCode"] == 404
