"""`python -m local.gateway`: serves one deployed stage to clients until it is interrupted.

Exit codes: 0 stopped by SIGINT or SIGTERM, 2 wrong usage, 3 the port is taken, 4 the emulator does
not answer, 5 the emulator has no such API or stage.
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
from local.errors import CredentialsMissingError
from local.gateway.errors import EmulatorUnreachableError, NotDeployedError
from local.gateway.server import (
    ADMIN_SEGMENT,
    HOST,
    PortTakenError,
    Settings,
    access_logger,
    run_gateway,
)

EXIT_USAGE = 2
EXIT_PORT_TAKEN = 3
EXIT_EMULATOR_UNREACHABLE = 4
EXIT_NOT_DEPLOYED = 5

# Much less than the smallest stage cache of AWS (0.5 GB): the rest of the stack needs the machine's
# memory, too.
_DEFAULT_CACHE_MIB = 64
_MIB = 1024 * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the gateway; return the exit code."""
    options = _build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    server_logger.addFilter(_NotOfClients())
    if not options.access_log:
        access_logger.setLevel(logging.WARNING)
    try:
        key = get_secret_key()
    except CredentialsMissingError as exc:
        return _report_failure(exc, EXIT_USAGE)
    settings = Settings(
        port=options.port,
        hosts=frozenset(options.host),
        emulator_url=options.emulator,
        emulator_key=key,
        region=options.region,
        api=options.api_id or options.api_name,
        by_name=options.api_id is None,
        stage=options.stage,
        max_cache_bytes=options.cache_mib * _MIB,
    )
    try:
        asyncio.run(_serve(settings))
    except PortTakenError as exc:
        return _report_failure(exc, EXIT_PORT_TAKEN)
    except EmulatorUnreachableError as exc:
        return _report_failure(exc, EXIT_EMULATOR_UNREACHABLE)
    except NotDeployedError as exc:
        return _report_failure(exc, EXIT_NOT_DEPLOYED)
    return 0


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with run_gateway(settings) as port:
        # The process that starts the gateway waits for this line.
        print(  # noqa: T201
            f"gateway ready: http://{HOST}:{port}/{settings.stage} for {settings.api} "
            f"on {settings.emulator_url}",
            flush=True,
        )
        await stop.wait()


class _NotOfClients(logging.Filter):
    """A filter that keeps clients' malformed requests out of the log of the server's own errors."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _report_failure(exc: Exception, code: int) -> int:
    sys.stderr.write(f"gateway: {exc}\n")
    return code


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local.gateway",
        description="Serves a deployed API Gateway stage of the emulator, with cache and limits.",
        epilog="exit codes: 0 stopped, 2 usage, 3 port taken, 4 emulator unreachable, "
        "5 API or stage not deployed",
    )
    parser.add_argument(
        "--port", type=int, required=True, help="port for clients; 0: any free port"
    )
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        type=str.lower,
        metavar="NAME",
        help="accept this host name in addition to the loopback names; can be repeated",
    )
    parser.add_argument("--emulator", required=True, metavar="URL", help="address of the emulator")
    api = parser.add_mutually_exclusive_group(required=True)
    api.add_argument("--api-id", help="id of the REST API")
    api.add_argument(
        "--api-name", help="name of the REST API; the newest API of this name is served"
    )
    parser.add_argument(
        "--stage", default="v1", type=_parse_stage_name, help="default: %(default)s"
    )
    parser.add_argument("--region", default="us-east-1", help="default: %(default)s")
    parser.add_argument(
        "--cache-mib",
        type=int,
        default=_DEFAULT_CACHE_MIB,
        help="maximum size of the cache in MiB (default: %(default)s)",
    )
    parser.add_argument("--access-log", action="store_true", help="log every request")
    return parser


def _parse_stage_name(text: str) -> str:
    if text == ADMIN_SEGMENT:
        raise argparse.ArgumentTypeError(f"{ADMIN_SEGMENT} is reserved for the gateway")
    return text


if __name__ == "__main__":
    sys.exit(main())
