"""A full disk: puts are refused, no record is lost, and the server recovers."""

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.fixtures.emulator import Emulator
from tests.fixtures.firehose import FirehoseServer, Line, Stream, deploy_stream, run_server

RECORD = b"x" * 99_999 + b"\n"


def is_taken(server: FirehoseServer, stream: Stream, data: bytes) -> bool:
    """Put a record; return False if the server has no space for it."""
    try:
        server.client().put_record(DeliveryStreamName=stream.name, Record={"Data": data})
    except ClientError as error:
        if error.response["Error"]["Code"] != "ServiceUnavailableException":
            raise
        return False
    return True


def put_until_refused(server: FirehoseServer, stream: Stream, most: int) -> int:
    """Return the number of records acknowledged before the first refusal."""
    for count in range(most):
        if not is_taken(server, stream, RECORD):
            return count
    pytest.fail(f"{most} records fit")


def test_no_room_for_a_file_refuses_the_put_only(firehose: FirehoseServer, stream: Stream) -> None:
    assert firehose.process is not None
    pid = firehose.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (600_000, before[1]))
    taken = put_until_refused(firehose, stream, 20)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    assert is_taken(firehose, stream, b"room\n")
    firehose.kill()
    firehose.start()
    firehose.flush()

    assert taken in {4, 5}
    assert stream.lines() == [RECORD.decode().rstrip()] * taken + ["room"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 70 MiB, of which puts must leave 64 free."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=70m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


@pytest.fixture
def cramped(small_disk: Path, line: Line) -> Iterator[FirehoseServer]:
    """A server with its spool on the small disk."""
    yield from run_server(FirehoseServer(small_disk / "spool", line.url))


def test_a_full_disk_is_got_over_when_s3_is_back(
    cramped: FirehoseServer, emulator: Emulator, line: Line
) -> None:
    stream = deploy_stream(emulator, BufferingHints={"SizeInMBs": 1, "IntervalInSeconds": 900})
    assert is_taken(cramped, stream, b"first\n")
    line.cut()
    taken = put_until_refused(cramped, stream, 70)
    assert 10 <= taken <= 60  # 6 MiB, of records and of what SQLite adds

    line.mend()
    cramped.flush()
    assert is_taken(cramped, stream, b"last\n")
    cramped.flush()

    lines = stream.lines()
    assert sorted(lines) == sorted(["first", "last", *[RECORD.decode().rstrip()] * taken])
