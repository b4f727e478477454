"""Failed starts report the reason in one sentence, and in the exit code."""

import json
import sqlite3
import subprocess
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from tests.fixtures.emulator import Emulator, server_environment
from tests.fixtures.firehose import ROOT, FirehoseServer, Stream


def run_to_its_end(server: FirehoseServer, port: int = 0) -> tuple[int, str]:
    finished = subprocess.run(
        server.command(port),
        cwd=ROOT,
        env=server_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.stdout == ""
    return finished.returncode, finished.stderr


def test_the_server_reports_that_it_is_ready(firehose: FirehoseServer) -> None:
    with urllib.request.urlopen(f"{firehose.url}/_health", timeout=20) as answer:  # noqa: S310
        assert json.load(answer) == {"status": "ok"}


def test_a_taken_port_is_refused(firehose: FirehoseServer, tmp_path: Path) -> None:
    port = urlsplit(firehose.url).port
    assert port is not None
    other = FirehoseServer(tmp_path / "other", firehose.endpoint_url)

    code, message = run_to_its_end(other, port)

    assert code == 1
    assert message.count("\n") == 1
    assert f"127.0.0.1:{port}" in message


def test_a_spool_that_can_not_be_written_is_refused(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    code, message = run_to_its_end(FirehoseServer(tmp_path / "file", emulator.url))

    assert code == 1
    assert message.count("\n") == 1
    assert "can't be written: File exists" in message


def test_a_corrupt_spool_is_refused(firehose: FirehoseServer, stream: Stream) -> None:
    client = firehose.client()
    client.put_record(DeliveryStreamName=stream.name, Record={"Data": b"one\n"})
    firehose.kill()
    spool = firehose.spool / "spool.sqlite3"
    with closing(sqlite3.connect(spool)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = spool.read_bytes()
    spool.write_bytes(content.replace(b"one\n", b"0ne\n"))

    code, message = run_to_its_end(firehose)

    assert code == 1
    assert message.count("\n") == 1
    assert f"{spool} is damaged" in message
    spool.write_bytes(content)
    firehose.start()
    firehose.flush()
    assert stream.lines() == ["one"]


def test_a_spool_that_can_not_be_read_is_refused(firehose: FirehoseServer) -> None:
    firehose.stop()
    (firehose.spool / "spool.sqlite3").unlink()
    (firehose.spool / "spool.sqlite3").mkdir()

    code, message = run_to_its_end(firehose)

    assert code == 1
    assert message.count("\n") == 1
    assert "can't be used: unable to open database file" in message


def test_wrong_usage_is_code_2(emulator: Emulator, tmp_path: Path) -> None:
    server = FirehoseServer(tmp_path / "spool", emulator.url, ("--chaos",))
    code, message = run_to_its_end(server)

    assert code == 2
    assert "--chaos" in message
