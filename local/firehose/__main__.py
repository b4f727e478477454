"""Runs the server: `python -m local.firehose --port N --spool DIR --endpoint-url URL`.

Exit codes: 0 stopped as asked; 1 a failure (the spool keeps what was acknowledged); 2 wrong usage.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from aiohttp import web

from local.aws import Emulated
from local.credentials import get_secret_key
from local.errors import PortTakenError, report
from local.firehose.delivery import Equipment, Firehose
from local.firehose.faults import Faults, FaultSettings
from local.firehose.server import FirehoseServer
from local.firehose.spool import Spool
from local.firehose.streams import describe

logger = logging.getLogger("local.firehose")

EXIT_STOPPED = 0
EXIT_DEFECT = 1

HOST = "127.0.0.1"
DESCRIBE_TIMEOUT_SECONDS = 5
S3_TIMEOUT_SECONDS = 60  # an object of 128 MiB on a busy machine
KEEPALIVE_SECONDS = 75.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s firehose: %(message)s"
    )
    options = parse_options(arguments)
    return report("firehose", lambda: asyncio.run(serve(options, get_secret_key())))


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; exits with code 2 and an error message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m local.firehose",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=int, required=True, help="0 takes a free one")
    add("--spool", type=Path, required=True, metavar="DIR")
    add("--endpoint-url", required=True, help="where the emulator listens")
    help_text = "how long a stop waits for S3 to take what is buffered; 0 leaves it in the spool"
    add("--stop-seconds", type=float, default=5.0, help=help_text)
    return parser.parse_args(arguments)


async def serve(options: argparse.Namespace, key: str) -> int:
    """Serve until a stop is requested; return the exit code."""
    stop: asyncio.Queue[int] = asyncio.Queue()  # receives an exit code for every reason to stop
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.put_nowait, EXIT_STOPPED)
    faults = Faults(FaultSettings())
    firehose = Firehose(_build_equipment(options, key, faults, stop))
    server = FirehoseServer(firehose, faults, endpoint_url=options.endpoint_url, key=key)
    runner = web.AppRunner(
        server.application(),
        access_log=None,
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=options.stop_seconds,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, options.port).start()
    except OSError as error:
        raise PortTakenError(f"can't listen on {HOST}:{options.port}: {error.strerror}") from error
    firehose.start()
    print(  # noqa: T201 - the process that starts the server waits for this line
        f"firehose: ready on http://{HOST}:{runner.addresses[0][1]}, spool {options.spool}, "
        f"emulator {options.endpoint_url}",
        flush=True,
    )
    try:
        exit_code = await stop.get()
        for number in (signal.SIGTERM, signal.SIGINT):  # a second signal ends the process at once
            asyncio.get_running_loop().remove_signal_handler(number)
        await runner.cleanup()
        await _flush_before_stop(firehose, options.stop_seconds)
    finally:  # otherwise the spool's thread would keep the process alive
        await firehose.stop()
    return exit_code


def _build_equipment(
    options: argparse.Namespace, key: str, faults: Faults, stop: asyncio.Queue[int]
) -> Equipment:
    emulated = Emulated(options.endpoint_url, key)

    def on_task_end(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.critical("a background task failed", exc_info=task.exception())
            stop.put_nowait(EXIT_DEFECT)

    return Equipment(
        spool=Spool(options.spool),
        s3=emulated.client("s3", S3_TIMEOUT_SECONDS),
        # Not asyncio's default executor: closing the event loop waits for its threads.
        threads=ThreadPoolExecutor(8, "emulator"),
        faults=faults,
        describe=partial(describe, emulated.client("firehose", DESCRIBE_TIMEOUT_SECONDS)),
        on_task_end=on_task_end,
    )


async def _flush_before_stop(firehose: Firehose, seconds: float) -> None:
    """Wait a moment for S3 to take the buffered records."""
    try:
        async with asyncio.timeout(seconds):
            await firehose.flush()
    except TimeoutError:
        logger.warning("stopping; what S3 did not take stays in the spool")


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: it would wait for a thread that hangs in an S3 call, for up to a minute.
    os._exit(code)
