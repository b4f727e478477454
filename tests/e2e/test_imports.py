"""Bulk import through the whole pipeline: from an object below `imports/` to rows and a report."""

from __future__ import annotations

import json
import uuid
from typing import Any

from tests.fixtures.emulator import wait_until
from tests.fixtures.stack import RunningStack, new_city


def store(stack: RunningStack, name: str, content: bytes) -> dict[str, Any]:
    """Store a file below `imports/`, and wait for its report."""
    bucket, key = stack.deployed.archive_bucket, f"imports/{name}"
    stack.s3.put_object(Bucket=bucket, Key=key, Body=content)
    report = f"{key}.report.json"
    wait_until(lambda: report in stack.keys("imports/"), f"{report} is written")
    document: dict[str, Any] = json.loads(stack.read_archived(report))
    return document


def test_an_exported_list_is_imported_as_the_same_rows(stack: RunningStack) -> None:
    city = new_city(name='"Ny", =by\r\nto')
    key = city["geonameid"]
    assert (
        stack.wait_for_status(stack.accepted("PUT", f"/cities/{key}", city))["status"] == "applied"
    )
    exported = stack.send("GET", f"/cities?geonameid=eq.{key}", Accept="text/csv")
    assert exported.status == 200
    deleted = stack.wait_for_status(stack.accepted("DELETE", f"/cities/{key}"))
    assert deleted["status"] == "applied"

    report = store(stack, f"cities/put/{uuid.uuid4().hex}.CSV", exported.body)
    assert (report["accepted"], report["refused"], report["error"]) == (1, 0, None)
    wait_until(
        lambda: stack.send("GET", f"/cities/{key}", Cache_Control="no-cache").status == 200,
        "the city is there again",
    )
    stack.flush_cache()
    assert stack.send("GET", f"/cities/{key}").json() == city


def test_an_object_that_is_not_taken_gets_one_report_and_that_gets_none(
    stack: RunningStack,
) -> None:
    name = f"cities/put/{uuid.uuid4().hex}.zip"
    assert "files with '.zip' are not read" in store(stack, name, b"PK\x03\x04")["error"]
    later = store(stack, f"cities/put/{uuid.uuid4().hex}.tsv", b"geonameid\n")
    assert later["error"] is None
    assert [key for key in stack.keys("imports/") if name in key] == [
        f"imports/{name}",
        f"imports/{name}.report.json",
    ]
