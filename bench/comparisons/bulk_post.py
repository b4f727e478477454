"""One POST of 500 items compared with 500 POSTs of one item, with the call to the stream.

The stream is the one-machine stack's: a server that writes each record to disk before it
acknowledges, as Firehose does. Each request makes one HTTP call with the real client.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import orders
from bench.comparisons.write_warm import ours
from bench.events import build_proxy_event, encode_json, unheard
from bench.harness import Aim, Contender, Findings, measure, speed
from bench.stage import Stage
from tests.fixtures.emulator import Emulator, free_port
from tests.fixtures.firehose import FirehoseServer, deploy_stream

ITEMS = 500
ROUNDS = 5


def compare(stage: Stage) -> Findings:
    """Send the same items both ways."""
    count = stage.size(ITEMS)
    one_post, posts = f"one POST of {count}", f"{count} POSTs of one"
    items = [command.body for command in orders.commands(count)]
    single = [build_proxy_event("POST", "/orders", body=encode_json(item)) for item in items]
    bulk = build_proxy_event("POST", "/orders", body=encode_json(items))
    with ExitStack() as resources:
        client, name = resources.enter_context(_stream(stage.folder))
        handle = ours(client, name)
        resources.enter_context(unheard())

        def one_by_one() -> None:
            for event in single:
                _check(handle(event), 202)

        contenders = [
            Contender(one_post, lambda: _check(handle(bulk), 207), count),
            Contender(posts, one_by_one, count),
        ]
        series = measure(contenders, rounds=stage.rounds(ROUNDS), warm_up=True)
    return Findings(
        series, [speed("bulk POST, per item", series, one_post, posts, Aim(at_least=30))], {}
    )


def _check(answer: dict[str, Any], status: int) -> None:
    if answer["statusCode"] != status:
        raise AssertionError(answer)


@contextmanager
def _stream(folder: Path) -> Iterator[Any]:
    """A client of a new stream server; the emulator describes the server's stream."""
    folder.chmod(0o755)
    emulator = Emulator(folder / "emulator", free_port())
    emulator.directory.mkdir()
    emulator.start()
    server = FirehoseServer(folder / "spool", emulator.url)
    try:
        stream = deploy_stream(emulator)
        server.start()
        yield server.client(), stream.name
    finally:
        if server.process is not None:
            server.kill()
        emulator.stop()
