"""`python -m local.gateway`: serves one deployed stage to clients until it is interrupted.

Exit codes: 0 stopped by SIGINT or SIGTERM, 1 a failure, 2 wrong usage.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from local.credentials import get_secret_key
from local.errors import report
from local.gateway.server import HOST, run_gateway


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the gateway; return the exit code."""
    options = _build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Clients' malformed requests do not belong in the log of the server's own errors.
    server_logger.addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
    )
    return report("gateway", lambda: asyncio.run(_serve(options, get_secret_key())))


async def _serve(options: argparse.Namespace, key: str) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with run_gateway(
        port=options.port,
        hosts=frozenset(options.host),
        emulator_url=options.emulator,
        key=key,
        api_id=options.api_id,
        stage=options.stage,
    ) as port:
        # The process that starts the gateway waits for this line.
        print(  # noqa: T201
            f"gateway ready: http://{HOST}:{port}/{options.stage} for {options.api_id} "
            f"on {options.emulator}",
            flush=True,
        )
        await stop.wait()
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local.gateway",
        description="Serves a deployed API Gateway stage of the emulator, with cache and limits.",
        epilog=__doc__[__doc__.index("Exit codes") :],
    )
    add = parser.add_argument
    add("--port", type=int, required=True, help="port for clients; 0: any free port")
    help_text = "accept this host name in addition to the loopback names; can be repeated"
    add("--host", action="append", default=[], type=str.lower, metavar="NAME", help=help_text)
    add("--emulator", required=True, metavar="URL", help="address of the emulator")
    add("--api-id", required=True, help="id of the REST API")
    add("--stage", default="v1", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
