"""The consumer applies a large object in a function with little memory."""

import base64
import gzip
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

from forebay.codec import encode
from forebay.command import Body, Command
from tests.faults.test_statements import HOUR, fault
from tests.fixtures.commands import command_id
from tests.fixtures.consumer import Bench, consume_within
from tests.fixtures.faults import Results

MEBIBYTE = 1024 * 1024
OBJECT_BYTES = 200 * MEBIBYTE
FUNCTION_MEBIBYTES = 256
_TEXT_CHARACTERS = 20_000  # the maximum for an announcement


def announcements(chance: random.Random) -> Iterator[bytes]:
    """Yield lines of commands without end; their text hardly compresses."""
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
    """Write the object; return the number of its commands."""
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
        f"{size / MEBIBYTE:.0f} MiB as stored, {lines:,} commands of 20 kB; the kernel refuses the "
        "process more than 256 MiB (RLIMIT_DATA), and its peak of resident memory is measured",
        part="consumer",
    ) as (fault_record, _):
        result = consume_within(bench, FUNCTION_MEBIBYTES * MEBIBYTE, [bench.message(key)])
        peak = result["peak_kibibytes"] / 1024
        fault_record.recovery_seconds = round(result["seconds"], 1)
        fault_record.remark = (
            f"peak {peak:.0f} MiB, {result['start_kibibytes'] / 1024:.0f} MiB at its start"
        )
        ((count,),) = bench.database.rows("SELECT count(*) FROM announcements")
        fault_record.acknowledged = lines
        fault_record.lost = lines - int(count)
    assert result["answer"] == {"batchItemFailures": []}
    assert peak < FUNCTION_MEBIBYTES
