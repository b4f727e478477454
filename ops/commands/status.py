"""`forebay status`: how the pipeline is doing, once or again and again."""

from __future__ import annotations

import datetime as dt
import time
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from ops import options
from ops.console import Console, pairs, table
from ops.context import ARCHIVE, DATABASE, DEAD_LETTERS, QUEUE, REPLICA, STREAMS, Context
from ops.exit_codes import ExitCode
from ops.status.report import Reporter

_EVERY_SECONDS = 2.0
_LOOKBACK_HOURS = 2


def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option("--every", min=0.5, help="With --watch: every so many seconds.")
    ] = _EVERY_SECONDS,
    hours: Annotated[
        int, typer.Option("--hours", min=1, help="Compare so much of the archive with the ledger.")
    ] = _LOOKBACK_HOURS,
    check: Annotated[
        bool, typer.Option("--check", help="End with 1 where something needs attention.")
    ] = False,
    database_url: options.DatabaseUrl = None,
    replica_url: options.ReplicaUrl = None,
    source: options.SourceUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> int:
    """Show queues, lags from acceptance to the replica, rejections, and what needs attention."""
    context = Context({DATABASE: database_url, REPLICA: replica_url, ARCHIVE: source}, env)
    # What is told nowhere is wrong usage, and not a server that does not answer.
    for setting in (DATABASE, ARCHIVE, QUEUE, DEAD_LETTERS, STREAMS):
        context.get(setting)
    reporter = Reporter(context, lookback=dt.timedelta(hours=hours))
    console = Console(as_json=as_json)
    if watch:
        _watch(console, reporter, every)
        return ExitCode.OK
    report = reporter.report()
    console.result(report)
    console.show(_screen(report))
    if report["unanswered"]:
        return ExitCode.INCOMPLETE
    return ExitCode.FOUND if check and report["needs_attention"] else ExitCode.OK


def _watch(console: Console, reporter: Reporter, every: float) -> None:
    """Until Ctrl-C, which is this command's ordinary end."""
    try:
        with console.live() as draw:
            while True:
                report = reporter.report()
                draw(report, _screen(report))
                time.sleep(every)
    except KeyboardInterrupt:
        return


def _screen(report: dict[str, Any]) -> RenderableType:
    replica = report["replica"]
    facts = pairs(
        {
            "at": f"{report['at']:%F %T} UTC",
            "queue": report["queue"],
            "dead letters": report["dead_letters"],
            "rejections": report["rejections"],
            "replica": replica,
        }
    )
    stages = table(
        ["stage", "oldest waiting, s", "objects waiting", "last 100: p50, s", "max, s"],
        [tuple(stage.values()) for stage in report["stages"]],
    )
    needs = report["needs_attention"] or ["nothing needs attention"]
    return Group(facts, "", stages, "", *needs)
