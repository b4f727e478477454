"""Status: what waits and how long, for people and for programs, also where a server is down."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from forebay.aws.events import object_event
from local.settings import ROOT
from ops.status import probes
from tests.fixtures.commands import city
from tests.fixtures.emulator import REGION, Emulator, free_port
from tests.fixtures.firehose import FirehoseServer
from tests.fixtures.operating import Operator
from tests.fixtures.site import Site


@pytest.fixture
def settings(site: Site, emulator: Emulator, firehose: FirehoseServer) -> dict[str, str]:
    """Variables that say where everything is."""
    return {
        "AWS_ENDPOINT_URL": emulator.url,
        "AWS_ENDPOINT_URL_FIREHOSE": firehose.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "FOREBAY_DATABASE_URL": site.database.url,
        "FOREBAY_ARCHIVE_BUCKET": site.bucket,
        "FOREBAY_QUEUE_URL": site.queue.url,
        "FOREBAY_DEAD_LETTER_QUEUE_URL": site.dead_letters.url,
        "FOREBAY_STREAMS": "commands",
    }


def put_now(site: Site, *, apply: bool, **changes: Any) -> None:
    """An object that arrived in this hour."""
    now = time.strftime("%Y/%m/%d/%H", time.gmtime())
    key = site.put(city(1, key=1, **changes))
    body = site.s3.get_object(Bucket=site.bucket, Key=key)["Body"].read()
    site.s3.delete_object(Bucket=site.bucket, Key=key)
    key = f"commands/{now}/{key.rpartition('/')[2]}"
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=body)
    if apply:
        site.apply(key)


def test_it_tells_what_waits_and_what_needs_attention(site: Site, settings: dict[str, str]) -> None:
    put_now(site, apply=True, name="x" * 300)  # rejected
    put_now(site, apply=False)
    site.queue.send([object_event(site.bucket, "commands/a")] * 2)
    site.dead_letters.send([object_event(site.bucket, "commands/b")])
    someone = Operator(ROOT, site.database.url, settings)

    told = someone.done("status")

    assert (told["queue"]["visible"], told["dead_letters"]["total"]) == (2, 1)
    assert told["rejections"] == {"open": 1, "last_hour": 1}
    stages = {stage["stage"]: stage for stage in told["stages"]}
    waiting = stages["archived → applied"]
    assert waiting["objects_waiting"] == 1
    assert 0 <= waiting["oldest_waiting_seconds"] < 3_600
    assert waiting["recent_max_seconds"] is not None
    assert told["unanswered"] == {}
    said = " ".join(told["needs_attention"])
    assert "forebay dlq list" in said
    assert "forebay rejections list" in said
    assert someone.run("status", "--check").code == 1
    screen = someone.run("status").out
    assert "archived → applied" in screen
    assert "1 dead letters" in screen


def test_where_all_is_well_nothing_needs_attention(site: Site, settings: dict[str, str]) -> None:
    put_now(site, apply=True)
    ended = Operator(ROOT, site.database.url, settings).run("status", "--check")

    assert (ended.code, ended.err) == (0, "")
    assert "nothing needs attention" in ended.out


def test_amendments_say_nothing_about_the_times_on_the_way(site: Site) -> None:
    """Their ids are of the time of the commands that they amend."""
    site.put_and_apply(city(1, key=1))
    site.apply(site.put(city(2, key=2), name="amend-of-a-command"))
    assert probes.way(site.database.connection, []).objects == 1


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("FOREBAY_DATABASE_URL", "postgresql://nobody@127.0.0.1:{port}/none", "primary"),
        ("FOREBAY_REPLICA_URL", "postgresql://nobody@127.0.0.1:{port}/none", "replica"),
        ("AWS_ENDPOINT_URL_FIREHOSE", "http://127.0.0.1:{port}", "stream"),
        ("FOREBAY_QUEUE_URL", "http://127.0.0.1:1/nobody/none", "queue"),
        ("FOREBAY_ARCHIVE_BUCKET", "no-such-bucket", "archive"),
    ],
)
def test_a_server_that_is_down_is_named_and_the_rest_is_told(
    site: Site, settings: dict[str, str], variable: str, value: str, named: str
) -> None:
    put_now(site, apply=True)
    broken = {**settings, variable: value.format(port=free_port())}

    told = Operator(ROOT, site.database.url, broken).done("status", code=5)

    assert named in told["unanswered"]
    assert any(text.startswith(f"{named} does not answer") for text in told["needs_attention"])
    rest = {"queue": "queue", "dead_letters": "dead_letters", "primary": "rejections"}
    for server, member in rest.items():
        assert (told[member] is None) == (server in told["unanswered"]), server


def test_a_setting_that_is_missing_is_wrong_usage(site: Site, settings: dict[str, str]) -> None:
    del settings["FOREBAY_QUEUE_URL"]
    ended = Operator(ROOT, site.database.url, settings).run("status")

    assert ended.code == 2
    assert "FOREBAY_QUEUE_URL" in ended.err


def test_watch_gives_one_object_a_line_until_ctrl_c(site: Site, settings: dict[str, str]) -> None:
    process = Operator(ROOT, site.database.url, settings).start(
        "status", "--watch", "--every", "0.5", "--json"
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    put_now(site, apply=False)
    while json.loads(process.stdout.readline())["stages"][1]["objects_waiting"] != 1:
        continue
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()

    assert first["stages"][1]["objects_waiting"] == 0
    assert (process.returncode, err) == (0, "")


def test_on_a_terminal_watch_redraws_in_place(site: Site, settings: dict[str, str]) -> None:
    """The alternate screen is entered once, drawn again and again, and left at the end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "status", "--watch", "--every", "0.5"],
        cwd=ROOT,
        env={**os.environ, **settings, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    shown = bytearray()
    reader = threading.Thread(target=_drain, args=(ours, shown))
    reader.start()
    while shown.count(b"nothing needs attention") < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    reader.join()
    os.close(ours)

    assert (process.returncode, err) == (0, b"")
    assert shown.count(b"\x1b[?1049h") == shown.count(b"\x1b[?1049l") == 1
    assert shown.count(b"\x1b[H") >= 3, "each drawing begins at the top"


def _drain(terminal: int, shown: bytearray) -> None:
    """Reads what a terminal shows until nobody writes to it any more."""
    try:
        while read := os.read(terminal, 65_536):
            shown += read
    except OSError:  # Linux's end of a terminal that its last writer has closed
        return
