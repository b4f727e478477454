"""`make load`: puts real countries and cities into the running stack and tells how long it took.

Standard output gets the figures (one JSON object with --json), standard error the progress.

Exit codes: 0 every item can be read; 1 something was refused, rejected, or is still missing;
2 wrong usage; 3 the API is not there, or let no request through for a minute; 130 interrupted.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

import orjson

from loader.errors import RefusedError, UnreachableError
from loader.loading import Options, load
from loader.posting import MAX_BATCH_ITEMS
from loader.progress import Bars
from local.settings import DEFAULT_BASE_PORT, LocalSettings

COMPLETE, INCOMPLETE, UNREACHABLE, INTERRUPTED = 0, 1, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one load; return the exit code."""
    parser = _build_parser()
    namespace = parser.parse_args(arguments)
    try:
        base_url = LocalSettings.from_env(base_port=namespace.port).base_url
    except ValueError as exc:
        parser.error(str(exc))
    options = Options(
        base_url=base_url,
        cities=namespace.cities,
        batch_items=namespace.batch,
        connections=namespace.connections,
        sample=namespace.sample,
        ask_all=namespace.ask_all,
    )
    try:
        with Bars() as bars:
            report = asyncio.run(load(options, bars))
    except UnreachableError as exc:
        sys.stderr.write(f"{exc}; start the stack with `make run`, or give its port: PORT=…\n")
        return UNREACHABLE
    except RefusedError as exc:
        sys.stderr.write(f"{exc}\n")
        return INCOMPLETE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; accepted items stay accepted\n")
        return INTERRUPTED
    text = orjson.dumps(report.document()).decode() if namespace.json else report.text()
    sys.stdout.write(f"{text}\n")
    return COMPLETE if report.is_complete else INCOMPLETE


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loader",
        description=__doc__.split("\n")[0],
        epilog=__doc__[__doc__.index("Exit codes") :],
    )
    add_argument = parser.add_argument
    add_argument(
        "--port", type=int, default=DEFAULT_BASE_PORT, help="port of the API (default: %(default)s)"
    )
    add_argument(
        "--cities",
        type=_count,
        metavar="N",
        help="load only the N most populous cities (default: all)",
    )
    add_argument("--batch", type=_batch, default=MAX_BATCH_ITEMS, metavar="N",
        help="items per request (default: %(default)s, the maximum)")  # fmt: skip
    add_argument("--connections", type=_positive, default=4, metavar="N",
        help="concurrent requests (default: %(default)s)")  # fmt: skip
    add_argument("--sample", type=_positive, default=500, metavar="N",
        help="commands whose lag to the replica is measured (default: %(default)s)")  # fmt: skip
    add_argument("--ask-all", action="store_true",
        help="request the status of every command instead of reading lists (slower)")  # fmt: skip
    add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _batch(text: str) -> int:
    value = _positive(text)
    if value > MAX_BATCH_ITEMS:
        raise ValueError
    return value


if __name__ == "__main__":
    sys.exit(main())
