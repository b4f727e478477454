"""One POST of 500 items beside 500 POSTs of one, with the call to the stream.

The stream is the one-machine stack's: a server that writes each record to disk before it
acknowledges, as Firehose does; each request is one call over HTTP by the real client.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

from bench import orders
from bench.comparisons.write_warm import ours
from bench.events import json_bytes, proxy_event, unheard
from bench.harness import Aim, Contender, Findings, measure, speed
from bench.stage import Stage
from local.firehose.spool import StreamSpool
from local.firehose.streams import StreamConfig
from local.settings import ROOT

ITEMS = 500
ROUNDS = 5
BULK, SINGLE = "one POST of 500", "500 POSTs of one"


def compare(stage: Stage) -> Findings:
    """The same items both ways."""
    items = [command.body for command in orders.commands(ITEMS)]
    single = [proxy_event("POST", "/orders", body=json_bytes(item)) for item in items]
    bulk = proxy_event("POST", "/orders", body=json_bytes(items))
    with ExitStack() as opened:
        handle = ours(opened.enter_context(_stream(stage.folder)))
        opened.enter_context(unheard())

        def one_by_one() -> None:
            for event in single:
                _check(handle(event), 202)

        contenders = [
            Contender(BULK, lambda: _check(handle(bulk), 207), ITEMS),
            Contender(SINGLE, one_by_one, ITEMS),
        ]
        series = measure(contenders, rounds=stage.rounds(ROUNDS), warm_up=True)
    return Findings(
        series, [speed("bulk POST, per item", series, BULK, SINGLE, Aim(at_least=30))], {}
    )


def _check(answer: dict[str, Any], status: int) -> None:
    if answer["statusCode"] != status:
        raise AssertionError(answer)


@contextmanager
def _stream(folder: Path) -> Iterator[Any]:
    """A client of a stream server of its own, which is ended at the end of the block.

    The stream is one that an earlier start has met; that nobody takes its objects does not matter,
    for the acknowledgement comes before.
    """
    spool = folder / "spool"
    config = StreamConfig("commands", "1", "archive", "commands/", "", 128, 900, True, ".gz", "")
    spool.mkdir()
    StreamSpool(spool / f"stream-{config.name}").save_configuration(config.as_dict())
    process = subprocess.Popen(  # noqa: S603 - our own server
        [
            *(sys.executable, "-m", "local.firehose", "--port", "0", "--spool", str(spool)),
            *("--endpoint-url", "http://127.0.0.1:9", "--stop-seconds", "0"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        ready = re.search(r"ready on (http://\S+),", line)
        if ready is None:
            raise RuntimeError(f"the stream server said {line!r}")
        yield _client(ready[1])
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


def _client(url: str) -> Any:  # noqa: ANN401 - botocore makes it at run time
    return botocore.session.get_session().create_client(
        "firehose",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - of a server on this machine
        config=Config(retries={"total_max_attempts": 1}),
    )
