"""`forebay status`: show the state of the pipeline, once or repeatedly."""

from __future__ import annotations

import datetime as dt
import time
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from ops import options
from ops.console import Console, build_pairs_table, build_table
from ops.context import ARCHIVE, DATABASE, DEAD_LETTERS, QUEUE, REPLICA, STREAMS, Context
from ops.exit_codes import ExitCode
from ops.status.limits import Limits
from ops.status.report import Reporter

_EVERY_SECONDS = 2.0
_LOOKBACK_HOURS = 2
_LIMITS = Limits()


def _describe_limit(subject: str) -> str:
    """Return the help of a limit."""
    return f"Limit of {subject}; above it, a problem is reported."


_Watch = Annotated[bool, typer.Option("--watch", help="Refresh the output until Ctrl-C.")]
_Every = Annotated[
    float, typer.Option("--every", min=0.5, help="With --watch: seconds between two refreshes.")
]
_Hours = Annotated[
    int,
    typer.Option("--hours", min=1, help="Hours of the archive that are compared with the ledger."),
]
_Check = Annotated[bool, typer.Option("--check", help="End with 1 if there is a problem.")]
_MaxUnappliedAge = Annotated[
    float,
    typer.Option(
        "--max-unapplied-age",
        min=0,
        help=_describe_limit("the seconds for which an object is not applied"),
    ),
]
_MaxReplicaLag = Annotated[
    float,
    typer.Option(
        "--max-replica-lag",
        min=0,
        help=_describe_limit("the seconds that the replica is behind"),
    ),
]
_MaxUndeliveredAge = Annotated[
    float | None,
    typer.Option(
        "--max-undelivered-age",
        min=0,
        help=_describe_limit("the seconds for which a stream keeps a command")
        + " Default: its buffer interval plus two minutes.",
    ),
]
_MaxSilentRun = Annotated[
    float,
    typer.Option(
        "--max-silent-run",
        min=0,
        help=_describe_limit("the seconds without progress of a running replay"),
    ),
]
_MaxRejections = Annotated[
    int,
    typer.Option("--max-rejections", min=0, help=_describe_limit("the number of open rejections")),
]
_MaxWaitingAge = Annotated[
    float,
    typer.Option(
        "--max-waiting-age",
        min=0,
        help=_describe_limit("the seconds for which a patch waits for its item"),
    ),
]
_MaxDeadLetters = Annotated[
    int,
    typer.Option(
        "--max-dead-letters",
        min=0,
        help=_describe_limit("the number of messages in each dead-letter queue"),
    ),
]
_MaxOutdated = Annotated[
    int,
    typer.Option(
        "--max-outdated",
        min=0,
        help=_describe_limit("the number of outdated rows"),
    ),
]


def status(
    *,
    watch: _Watch = False,
    every: _Every = _EVERY_SECONDS,
    hours: _Hours = _LOOKBACK_HOURS,
    check: _Check = False,
    max_unapplied_age: _MaxUnappliedAge = _LIMITS.unapplied_seconds,
    max_replica_lag: _MaxReplicaLag = _LIMITS.replica_lag_seconds,
    max_undelivered_age: _MaxUndeliveredAge = _LIMITS.undelivered_seconds,
    max_silent_run: _MaxSilentRun = _LIMITS.silent_run_seconds,
    max_rejections: _MaxRejections = _LIMITS.open_rejections,
    max_waiting_age: _MaxWaitingAge = _LIMITS.waiting_seconds,
    max_dead_letters: _MaxDeadLetters = _LIMITS.dead_letters,
    max_outdated: _MaxOutdated = _LIMITS.outdated_rows,
    database_url: options.DatabaseUrl = None,
    replica_url: options.ReplicaUrl = None,
    source: options.SourceUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> int:
    """Show queues, the lag of each stage, rejections, and the problems that need attention."""
    context = Context({DATABASE: database_url, REPLICA: replica_url, ARCHIVE: source}, env)
    # A setting without a value is wrong usage, and not a server that does not answer.
    for setting in (DATABASE, ARCHIVE, QUEUE, DEAD_LETTERS, STREAMS):
        context.get(setting)
    limits = Limits(
        unapplied_seconds=max_unapplied_age,
        replica_lag_seconds=max_replica_lag,
        undelivered_seconds=max_undelivered_age,
        silent_run_seconds=max_silent_run,
        open_rejections=max_rejections,
        waiting_seconds=max_waiting_age,
        dead_letters=max_dead_letters,
        outdated_rows=max_outdated,
    )
    reporter = Reporter(context, lookback=dt.timedelta(hours=hours), limits=limits)
    console = Console(as_json=as_json, strays=context.strays)
    if watch:
        _watch(console, reporter, every)
        return ExitCode.OK
    report = reporter.report()
    console.result(report)
    console.show(_render(report))
    if report["unanswered"]:
        return ExitCode.INCOMPLETE
    return ExitCode.FOUND if check and report["needs_attention"] else ExitCode.OK


def _watch(console: Console, reporter: Reporter, every: float) -> None:
    """Show the state repeatedly until Ctrl-C, which is the normal end of this command."""
    try:
        with console.live() as draw:
            while True:
                report = reporter.report()
                draw(report, _render(report))
                time.sleep(every)
    except KeyboardInterrupt:
        return


def _render(report: dict[str, Any]) -> RenderableType:
    facts = build_pairs_table(
        {
            "at": f"{report['at']:%F %T} UTC",
            "queue": report["queue"],
            "dead letters": _list_depths(report),
            "uploads not claimed": report["uploads"],
            "rejections": report["rejections"],
            "waiting": report["waiting"],
            "replica": report["replica"],
            "outdated rows": _sum_rows(report["outdated"]),
            "databases": [
                "{role} {host}:{port}, database {database}".format(**database)
                for database in report["databases"]
            ],
        }
    )
    stages = build_table(
        ["stage", "oldest waiting, s", "objects waiting", "last 100: p50, s", "max, s"],
        [tuple(stage.values()) for stage in report["stages"]],
    )
    needs = report["needs_attention"] or ["nothing needs attention"]
    return Group(facts, "", stages, "", *needs)


def _list_depths(report: dict[str, Any]) -> dict[str, int]:
    """Return the number of dead letters of each queue that answered."""
    names = {
        "live": "dead_letters",
        "of replays": "replay_dead_letters",
        "of imports": "import_dead_letters",
        "of uploads": "upload_dead_letters",
    }
    return {label: report[name]["total"] for label, name in names.items() if report[name]}


def _sum_rows(outdated: dict[str, int] | None) -> object:
    return "not counted in time" if outdated is None else sum(outdated.values())
