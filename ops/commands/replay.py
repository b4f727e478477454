"""`forebay replay`: apply archived commands again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import typer

from forebay.replay.runs import Run
from forebay.replay.selection import Selection
from ops import options
from ops.archive.damage import find_damaged, refuse_damaged
from ops.archive.layout import describe_lack
from ops.archive.listing import count_objects
from ops.archive.missing import Missing
from ops.commands import arguments
from ops.commands.arguments import build_console, check_resources
from ops.console import Console
from ops.context import ARCHIVE, DATABASE, REPLAY_QUEUE, REPLICA, Context
from ops.errors import IncompleteError, UsageError
from ops.replay import replay as replaying
from ops.replay.plan import make_plan
from ops.replay.via_queue import replay_via_queue

_ViaQueue = Annotated[
    bool,
    typer.Option(
        "--via-queue",
        help="Let the consumer function apply the objects, through the replay queue.",
    ),
]
_ReplayQueueUrl = Annotated[
    str | None,
    typer.Option(
        "--replay-queue-url", help="The replay queue. [env var: FOREBAY_REPLAY_QUEUE_URL]"
    ),
]
_Watch = Annotated[
    bool,
    typer.Option("--watch", help="With --via-queue or --resume: follow the run to its end."),
]
_Workers = Annotated[
    int, typer.Option("--workers", min=1, max=32, help="Number of connections to the primary.")
]
_Rate = Annotated[
    float | None, typer.Option("--rate", min=1, help="Maximum number of commands per second.")
]
_MaxReplicaLag = Annotated[
    float | None,
    typer.Option(
        "--max-replica-lag",
        min=0.1,
        help="Wait while the replica is more than this many seconds behind.",
    ),
]
_Resume = Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Continue this run.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Apply each chunk, count, and roll back.")]
_Plan = Annotated[bool, typer.Option("--plan", help="Only report the effects of the replay.")]


def replay(
    *,
    since: arguments.Since = None,
    until: arguments.Until = None,
    resource: arguments.Resources = None,
    key: arguments.Keys = None,
    by: arguments.Callers = None,
    id_file: arguments.IdFile = None,
    source: options.SourceUrl = None,
    database_url: options.DatabaseUrl = None,
    replica_url: options.ReplicaUrl = None,
    via_queue: _ViaQueue = False,
    replay_queue_url: _ReplayQueueUrl = None,
    watch: _Watch = False,
    workers: _Workers = 2,
    rate: _Rate = None,
    max_replica_lag: _MaxReplicaLag = None,
    resume: _Resume = None,
    dry_run: _DryRun = False,
    plan: _Plan = False,
    yes: options.Yes = False,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """Apply archived commands again; safe at any time, during live traffic too."""
    context = Context(
        {
            ARCHIVE: source,
            DATABASE: database_url,
            REPLICA: replica_url,
            REPLAY_QUEUE: replay_queue_url,
        },
        env,
    )
    console = build_console(context, as_json=as_json)
    check_resources(context, resource or ())
    selection = arguments.select(
        since=since, until=until, resources=resource, keys=key, callers=by, id_file=id_file
    )
    if resume and not selection.is_everything:
        raise UsageError("--resume uses the conditions of its run; leave out all conditions")
    if dry_run and (via_queue or resume):
        raise UsageError("--dry-run can't be combined with --via-queue or --resume")
    pace = replaying.Pace(
        workers=workers, rate_per_second=rate, max_replica_lag_seconds=max_replica_lag
    )
    if lack := describe_lack(context.archive):
        raise IncompleteError(f"{lack}; nothing was replayed")
    if plan:
        _print_plan(context, console, selection, pace)
        return
    run = replaying.find_resumable(context, resume) if resume else None
    if run is not None:
        selection = Selection.from_json(run.selection)
    if via_queue or (run is not None and run.via_queue):
        replay_via_queue(context, console, run, selection, watch=watch, yes=yes)
        _require_all_objects(console, replaying.find_missing_objects(context, selection), selection)
        return
    _replay_here(context, console, run, selection, pace, dry_run=dry_run, yes=yes)


def _replay_here(
    context: Context,
    console: Console,
    run: Run | None,
    selection: Selection,
    pace: replaying.Pace,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Replay in this process: a new run, a resumed one, or a rehearsal without a run.

    Raises:
        RefusedError: the archive is a copy with damaged objects.
        IncompleteError: objects failed, no command was selected, or the archive is incomplete.
    """
    is_resumed = run is not None
    stored = replaying.list_objects(context.archive, selection)
    refuse_damaged(console, context.archive, stored, empty_only=False)
    missing = replaying.find_missing_objects(context, selection)
    if run is None and not dry_run:
        objects, size = count_objects(replaying.list_objects(context.archive, selection))
        console.confirm(
            f"Replay {objects:,} objects ({size:,} bytes) of {context.archive.url}?", yes=yes
        )
        run = replaying.start_run(context, selection)
        console.note(
            f"run {run.id}; if it is killed, continue with: forebay replay --resume {run.id}"
        )
    totals = replaying.replay(context, console, run, selection, pace, decides_conflicts=not missing)
    header = {"run": run.id if run else None, "dry_run": dry_run}
    console.facts({**header, **totals.facts(), **missing.facts()})
    if totals.failed:
        if missing:
            console.note(missing.sentence)
        next_step = f"`forebay replay --resume {run.id}`" if run else "this command again"
        raise IncompleteError(
            f"{totals.failed:,} objects were not applied completely; repair the causes above, then "
            f"run {next_step}"
        )
    if not is_resumed:  # the previous call may have applied all selected commands
        _require_commands(totals.lines, totals.objects, selection, totals.found_ids)
    _require_all_objects(console, missing, selection)


def _print_plan(
    context: Context, console: Console, selection: Selection, pace: replaying.Pace
) -> None:
    """Print the effects of a replay, and the damaged and missing objects."""
    missing = replaying.find_missing_objects(context, selection)
    objects = replaying.list_objects(context.archive, selection)
    damaged = find_damaged(console, context.archive, objects)
    result = make_plan(context, console, selection)
    facts = result.facts(workers=pace.workers, rate_per_second=pace.rate_per_second)
    console.facts({**facts, **missing.facts(), "damaged": [fault.facts() for fault in damaged]})
    _require_commands(result.selected, result.objects, selection, result.found_ids)
    _require_all_objects(console, missing, selection)


def _require_all_objects(console: Console, missing: Missing, selection: Selection) -> None:
    """Fail if the archive is incomplete.

    If commands are selected by more than their time, the missing objects may contain none of them;
    then they are only printed.

    Raises:
        IncompleteError: the archive lacks objects that the ledger shows as applied.
    """
    if not missing:
        return
    if selection.resources or selection.keys or selection.by or selection.ids:
        console.note(missing.sentence)
        return
    raise IncompleteError(missing.sentence)


def _require_commands(
    commands: int, objects: int, selection: Selection, found_ids: Collection[str]
) -> None:
    """Fail if a replay has conditions and no command fulfils them, or not all ids were found.

    Raises:
        IncompleteError: no command was selected, or the archive lacks a selected id.
    """
    if commands or selection.is_everything:
        if lack := arguments.describe_lacking_ids(selection, found_ids):
            raise IncompleteError(lack)
        return
    ids = f"none of the {len(selection.ids):,} ids of --id-file" if selection.ids else "no command"
    raise IncompleteError(
        f"nothing was selected: {ids} meets the conditions in the {objects:,} objects of the "
        "archive that can contain such commands; `forebay history RESOURCE KEY` finds commands, "
        "and `forebay verify` finds objects whose names have another time than their commands"
    )
