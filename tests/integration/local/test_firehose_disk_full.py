"""A full disk: puts are refused, no record is lost, and the server recovers."""

import resource

import pytest
from botocore.exceptions import ClientError

from tests.fixtures.firehose import FirehoseServer, Stream

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
