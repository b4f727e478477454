"""A large object in a small function."""

import base64
import gzip
import json
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forebay.codec import encode
from forebay.command import Body, Command
from local.settings import ROOT
from tests.faults.test_statements import HOUR, aws_environment, fault
from tests.fixtures.commands import command_id
from tests.fixtures.consumer import Bench
from tests.fixtures.faults import Results

MEBIBYTE = 1024 * 1024
OBJECT_BYTES = 200 * MEBIBYTE
FUNCTION_MEBIBYTES = 256
_TEXT_CHARACTERS = 20_000  # the longest that an announcement may be

# The function as Lambda runs it, in a process of its own, which tells its own peak.
CONSUME = """
import json, sys, time
from lambdas.firehose_consumer.handler import lambda_handler

def peak():
    # Not getrusage, whose peak begins with that of the process which started this one.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

before = peak()
began = time.monotonic()
answer = lambda_handler(json.load(sys.stdin), None)
print(json.dumps({
    "answer": answer,
    "seconds": time.monotonic() - began,
    "start_kibibytes": before,
    "peak_kibibytes": peak(),
}))
"""


def announcements(chance: random.Random) -> Iterator[bytes]:
    """Lines of commands whose text no compression makes much smaller, for ever."""
    number = 0
    while True:
        text = base64.b64encode(chance.randbytes(_TEXT_CHARACTERS * 3 // 4)).decode()
        body: Body = {
            "title": f"Announcement {number}",
            "body": text,
            "published_on": "2025-10-17",
            "expires_at": None,
            "status": "published",
            "pinned": False,
            "tags": [],
        }
        key = str(uuid.UUID(int=number, version=4))
        yield encode(
            Command(command_id(number), "put", "announcements", key, 1, "test", None, body)
        )
        number += 1


def large_object(file: Path) -> int:
    """Writes the object; how many commands it has."""
    lines = 0
    with file.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1) as packed:
        for line in announcements(random.Random(7)):
            packed.write(line)
            lines += 1
            if lines % 100 == 0 and raw.tell() > OBJECT_BYTES:
                return lines
    raise AssertionError("the lines go on for ever")


def test_a_large_object_in_a_small_function(
    bench: Bench, fault_results: Results, tmp_path: Path
) -> None:
    file = tmp_path / "large.gz"
    lines = large_object(file)
    size = file.stat().st_size
    key = f"{HOUR}/large.gz"
    bench.s3.upload_file(str(file), bench.bucket, key)
    with fault(
        fault_results,
        bench,
        "200 MiB object, function of 256 MiB",
        f"{size / MEBIBYTE:.0f} MiB as stored, {lines:,} commands of 20 kB; the process's peak of "
        "resident memory is measured, nothing enforces it",
        part="consumer",
    ) as (made, _):
        told = consume(bench, key)
        peak = told["peak_kibibytes"] / 1024
        made.recovery_seconds = round(told["seconds"], 1)
        made.remark = f"peak {peak:.0f} MiB, {told['start_kibibytes'] / 1024:.0f} MiB at its start"
        ((count,),) = bench.database.rows("SELECT count(*) FROM announcements")
        made.acknowledged = lines
        made.lost = lines - int(count)
    assert told["answer"] == {"batchItemFailures": []}
    assert peak < FUNCTION_MEBIBYTES


def consume(bench: Bench, key: str) -> dict[str, Any]:
    """What a consumer function told of itself when it was given the object."""
    environment = {
        **aws_environment(bench),
        "FOREBAY_DATABASE_URL": bench.database.url,
        "FOREBAY_ARCHIVE_BUCKET": bench.bucket,
        "PYTHONPATH": os.fspath(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", CONSUME],
        input=json.dumps({"Records": [bench.message(key)]}),
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
