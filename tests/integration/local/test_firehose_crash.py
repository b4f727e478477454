"""State that survives the server: kill -9, stops, starts without the emulator, a torn spool."""

import concurrent.futures
import os
import signal
import sqlite3
import threading
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.fixtures.emulator import Emulator, free_port
from tests.fixtures.firehose import (
    FirehoseServer,
    Line,
    Stream,
    deploy_stream,
    wait_for_objects,
)


def put(server: FirehoseServer, stream: Stream, data: bytes) -> None:
    server.client().put_record(DeliveryStreamName=stream.name, Record={"Data": data})


def test_a_killed_server_keeps_acknowledged_records(
    firehose: FirehoseServer, stream: Stream
) -> None:
    put(firehose, stream, b"one\n")
    put(firehose, stream, b"two\n")
    firehose.kill()
    assert stream.object_keys() == []

    firehose.start()
    put(firehose, stream, b"three\n")
    assert firehose.stream_status(stream.name)["buffered_records"] == 3
    firehose.flush()

    (key,) = stream.object_keys()  # the same buffer is continued
    assert stream.body(key) == b"one\ntwo\nthree\n"


def test_a_kill_under_load_loses_nothing_acknowledged(
    firehose: FirehoseServer, emulator: Emulator
) -> None:
    stream = deploy_stream(emulator, BufferingHints={"SizeInMBs": 1, "IntervalInSeconds": 1})
    acknowledged: set[str] = set()
    enough = threading.Event()

    def write_until_it_dies(writer: int) -> None:
        client = firehose.client()
        for number in range(100_000):
            lines = [f"{writer}-{number}-{part}" for part in range(3)]
            records: Any = [{"Data": line.ljust(2000, ".").encode() + b"\n"} for line in lines]
            try:
                client.put_record_batch(DeliveryStreamName=stream.name, Records=records)
            except (BotoCoreError, ClientError):
                return
            acknowledged.update(lines)
            if len(acknowledged) > 1500:  # some objects are in S3 by now, others are not
                enough.set()

    with concurrent.futures.ThreadPoolExecutor(4) as writers:
        for writer in range(4):
            writers.submit(write_until_it_dies, writer)
        assert enough.wait(60)
        firehose.kill()
    firehose.start()
    firehose.flush()

    delivered = {line.rstrip(".") for line in stream.lines()}
    assert acknowledged <= delivered
    assert len(stream.object_keys()) >= 3


def test_an_object_repeated_after_a_kill_is_the_same_object(
    emulator: Emulator, line: Line, firehose: FirehoseServer, stream: Stream
) -> None:
    firehose.stop()
    firehose.endpoint_url = line.url
    firehose.start()
    put(firehose, stream, b"once\n")
    line.lose_answers_to("PUT")  # S3 takes the object, and its answer is lost
    assert firehose.request("POST", "/_flush?timeout=1")[0] == 504
    assert len(stream.object_keys()) == 1
    firehose.kill()

    line.mend()
    firehose.start()
    firehose.flush()

    (key,) = stream.object_keys()
    assert stream.body(key) == b"once\n"


def test_a_torn_write_is_cut_off(firehose: FirehoseServer, stream: Stream) -> None:
    put(firehose, stream, b"whole\n")
    put(firehose, stream, b"also whole\n")
    firehose.kill()
    log = firehose.spool / "spool.sqlite3-wal"
    content = log.read_bytes()
    log.write_bytes(content + content[-4_120:-5])  # a copy of the last frame, without its end

    firehose.start()
    put(firehose, stream, b"after\n")
    firehose.flush()

    assert stream.lines() == ["whole", "also whole", "after"]


def test_records_age_while_the_server_is_away(firehose: FirehoseServer, emulator: Emulator) -> None:
    stream = deploy_stream(emulator, BufferingHints={"SizeInMBs": 1, "IntervalInSeconds": 900})
    put(firehose, stream, b"old\n")
    firehose.kill()
    make_an_hour_older(firehose)

    firehose.start()

    (key,) = wait_for_objects(stream, 1)
    assert stream.body(key) == b"old\n"


def test_a_stop_delivers_buffered_records(firehose: FirehoseServer, stream: Stream) -> None:
    put(firehose, stream, b"last words\n")

    assert firehose.stop() == 0

    assert stream.lines() == ["last words"]
    with closing(sqlite3.connect(firehose.spool / "spool.sqlite3")) as spool:
        assert spool.execute("SELECT count(*) FROM puts").fetchone() == (0,)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_without_s3_leaves_it_in_the_spool(
    emulator: Emulator, line: Line, firehose: FirehoseServer, stream: Stream, number: signal.Signals
) -> None:
    firehose.stop()
    firehose.endpoint_url, firehose.options = line.url, ("--stop-seconds", "0.5")
    firehose.start()
    put(firehose, stream, b"kept\n")
    line.cut()

    assert firehose.stop(number) == 0

    assert stream.object_keys() == []
    line.mend()
    firehose.start()
    firehose.flush()
    assert stream.lines() == ["kept"]


def test_a_start_does_not_need_the_emulator(
    firehose: FirehoseServer, emulator: Emulator, stream: Stream
) -> None:
    put(firehose, stream, b"one\n")
    firehose.kill()
    firehose.endpoint_url = f"http://127.0.0.1:{free_port()}"
    firehose.start()

    with pytest.raises(ClientError, match="ServiceUnavailableException"):
        put(firehose, stream, b"of a stream it can't look up\n")
    assert firehose.request("POST", "/_flush?timeout=0.3")[0] == 504
    firehose.kill()

    firehose.endpoint_url = emulator.url
    firehose.start()
    firehose.flush()
    assert stream.lines() == ["one"]


def test_streams_are_kept_apart(firehose: FirehoseServer, emulator: Emulator) -> None:
    streams = [deploy_stream(emulator) for _ in range(3)]
    for stream in streams:
        put(firehose, stream, f"{stream.name}\n".encode())
    firehose.kill()
    firehose.start()
    firehose.flush()

    for stream in streams:
        assert stream.lines() == [stream.name]


def test_a_delivered_spool_takes_no_room_after_a_start(
    firehose: FirehoseServer, stream: Stream
) -> None:
    for _ in range(5):
        put(firehose, stream, os.urandom(700_000))
    firehose.flush()

    firehose.stop()
    firehose.start()

    assert sum(path.stat().st_size for path in firehose.spool.iterdir()) < 100_000


def make_an_hour_older(server: FirehoseServer) -> None:
    """Change the spool of a killed server as if its records had arrived an hour earlier."""
    with closing(sqlite3.connect(server.spool / "spool.sqlite3")) as spool, spool:
        spool.execute("UPDATE objects SET oldest_ms = oldest_ms - 3600000")
