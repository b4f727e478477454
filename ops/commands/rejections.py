"""`forebay rejections`: list rejections, send amendments, or discard rejections."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from forebay.aws.archive import Archive
from forebay.db.connect import Connection
from forebay.ids import IdSource
from ops import options
from ops.archive.store import Bucket
from ops.commands.arguments import build_console
from ops.commands.rejection_output import (
    Survey,
    build_row,
    describe_others,
    print_retry,
    tabulate_attempts,
    tabulate_rejections,
)
from ops.console import build_table
from ops.context import ARCHIVE, DATABASE, Context
from ops.errors import IncompleteError, RefusedError, UsageError
from ops.rejections import audit, rules, store
from ops.rejections.deciding import Decider, DecisionCounts
from ops.rejections.planning import Planner
from ops.rejections.store import STATES, Selection, Stored

app = typer.Typer(
    help="Commands that can never apply: list them, send amendments, or discard them."
)

_SHOWN = 20
#: In the place of an invalid line's resource.
_INVALID_LINE = "(invalid line)"
_PURPOSE = "rejections"

_Ids = Annotated[
    list[str] | None, typer.Option("--id", help="Only the rejection with this id; may be repeated.")
]
_Resource = Annotated[str | None, typer.Option(help="Only rejections of this resource.")]
_Key = Annotated[str | None, typer.Option(help="Only rejections of this key.")]
_Code = Annotated[str | None, typer.Option(help="Only rejections with this code.")]
_Since = Annotated[str | None, typer.Option("--from", help="Rejected at this time or later.")]
_Until = Annotated[str | None, typer.Option("--to", help="Rejected before this time.")]
_Limit = Annotated[int, typer.Option(min=0, help="Show at most this many; all are counted.")]
_By = Annotated[
    str | None, typer.Option("--by", help="Your name in the record (default: your login name).")
]

_Fix = Annotated[
    Path | None, typer.Option(help="File of rules that correct the commands (docs/cli.md).")
]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show the commands that would be sent.")
]
_RetriedState = Annotated[
    str, typer.Option(help="State of the rejections: open, unmet or discarded.")
]
_EvenOvertaken = Annotated[
    bool,
    typer.Option(
        "--even-overtaken",
        help="Also if the key has been written since: the amendment wins.",
    ),
]
_DropCondition = Annotated[
    bool,
    typer.Option(
        "--drop-condition",
        help="Send commands whose conditions did not hold without them; otherwise these are left "
        "out.",
    ),
]
_All = Annotated[bool, typer.Option("--all", help="All open rejections; only without a filter.")]


@app.command("list")
def list_rejections(
    *,
    state: Annotated[str, typer.Option(help=f"One of {', '.join(STATES)}.")] = "open",
    ids: _Ids = None,
    resource: _Resource = None,
    key: _Key = None,
    code: _Code = None,
    since: _Since = None,
    until: _Until = None,
    limit: _Limit = _SHOWN,
    database_url: options.DatabaseUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """List rejections, and count them by resource and code."""
    selection = _build_selection(
        state, ids=ids, resource=resource, key=key, code=code, since=since, until=until
    )
    context = Context({DATABASE: database_url}, env)
    with context.connect_for_reading(purpose=_PURPOSE) as connection:
        moment = store.read_state_time(connection)
        counts = store.count(connection, selection)
        shown = _read_first(connection, selection, limit)
    total = sum(number for _, _, number in counts)
    console = build_console(context, as_json=as_json)
    labelled = [(path or _INVALID_LINE, name, number) for path, name, number in counts]
    console.show(build_table(["resource", "code", "rejections"], labelled))
    console.show(tabulate_rejections(shown))
    console.result(
        {
            "state": state,
            "at": moment,
            "total": total,
            "counts": [
                {"resource": path, "code": name, "count": number} for path, name, number in counts
            ],
            "rejections": [build_row(stored) for stored in shown],
        },
        f"{total:,} {'' if state == 'all' else state + ' '}rejections, {len(shown):,} shown, "
        f"as of {moment:%FT%T.%f}Z",
    )


@app.command()
def show(
    rejection: Annotated[str, typer.Argument(help="The rejection's id (the id of its command).")],
    *,
    database_url: options.DatabaseUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """Show one rejection: the reason, the archived line, and the decision about it."""
    context = Context({DATABASE: database_url}, env)
    selection = _build_selection("all", ids=[rejection])
    with context.connect_for_reading(purpose=_PURPOSE) as connection:
        rows = _read_first(connection, selection, 1)
    if not rows:
        raise RefusedError(
            f"there is no rejection {rejection}; `forebay rejections list --state all` lists the "
            "rejections"
        )
    build_console(context, as_json=as_json).facts(
        {**build_row(rows[0]), "line": rows[0].line.decode("utf-8", "backslashreplace")}
    )


@app.command()
def retry(
    *,
    fix: _Fix = None,
    dry_run: _DryRun = False,
    state: _RetriedState = "open",
    ids: _Ids = None,
    resource: _Resource = None,
    key: _Key = None,
    code: _Code = None,
    since: _Since = None,
    until: _Until = None,
    even_overtaken: _EvenOvertaken = False,
    drop_condition: _DropCondition = False,
    reason: Annotated[str | None, typer.Option(help="Reason, kept in the record.")] = None,
    by: _By = None,
    limit: _Limit = _SHOWN,
    database_url: options.DatabaseUrl = None,
    source: options.SourceUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Send amendments for rejected commands, changed by rules or unchanged."""
    _check_retried_state(state)
    selection = _build_selection(
        state, ids=ids, resource=resource, key=key, code=code, since=since, until=until
    )
    context = Context({DATABASE: database_url, ARCHIVE: source}, env)
    console = build_console(context, as_json=as_json)
    id_source, operator = IdSource(), _name_operator(by)
    make_planner = partial(
        Planner,
        context.resources,
        by=operator,
        ids=id_source,
        rules=rules.load(fix) if fix else None,
        even_overtaken=even_overtaken,
        drop_conditions=drop_condition,
    )
    with context.connect(purpose=_PURPOSE) as connection:
        survey = _survey_retry(connection, make_planner(), selection, limit)
        console.show(tabulate_attempts(survey.shown))
        if dry_run:
            print_retry(console, survey, None, dry_run=True)
            return
        console.confirm(
            f"Send {survey.ready:,} of {survey.counts.total():,} rejected commands again? "
            f"{describe_others(survey)}",
            yes=yes,
        )
        decider = _build_decider(context, connection, operator, id_source)
        counts = decider.resume("retried", selection)
        planner = make_planner()
        with console.progress("retry", unit="commands", total=survey.ready) as meter:
            for page in store.read_pages_of(connection, selection, survey.ids):
                page_counts = decider.retry(planner.plan(connection, page), reason=reason)
                counts += page_counts
                meter.advance(page_counts.recorded)
    print_retry(console, survey, counts, dry_run=False)
    _require_sent(counts)


def _check_retried_state(state: str) -> None:
    if state not in {"open", "unmet", "discarded"}:
        raise UsageError(
            f"rejections of --state {state} can't be retried; use open, unmet or discarded"
        )


@app.command()
def discard(
    *,
    reason: Annotated[str, typer.Option(help="Reason, kept in the record.")],
    ids: _Ids = None,
    resource: _Resource = None,
    key: _Key = None,
    code: _Code = None,
    since: _Since = None,
    until: _Until = None,
    everything: _All = False,
    by: _By = None,
    database_url: options.DatabaseUrl = None,
    source: options.SourceUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Discard open rejections: they stay rejected, and are no longer listed as open."""
    if not reason.strip():
        raise UsageError("--reason is empty; write why the rejections need no other action")
    _require_filter(
        is_filtered=any((ids, resource, key, code, since, until)), everything=everything
    )
    selection = _build_selection(
        "open", ids=ids, resource=resource, key=key, code=code, since=since, until=until
    )
    context = Context({DATABASE: database_url, ARCHIVE: source}, env)
    console = build_console(context, as_json=as_json)
    with context.connect(purpose=_PURPOSE) as connection:
        rejection_ids = store.list_ids(connection, selection)
        console.confirm(f"Discard {len(rejection_ids):,} open rejections?", yes=yes)
        decider = _build_decider(context, connection, _name_operator(by), IdSource())
        counts = decider.resume("discarded", selection)
        for page in store.read_pages_of(connection, selection, rejection_ids):
            counts += decider.discard(page, reason)
    console.result(
        {"run": decider.run, "discarded": counts.recorded, "taken": counts.taken},
        f"{counts.recorded:,} rejections discarded",
    )


def _require_filter(*, is_filtered: bool, everything: bool) -> None:
    """Require either a filter or `--all`, so that no rejection is discarded unseen.

    Raises:
        UsageError: both are given, or neither.
    """
    if is_filtered and everything:
        raise UsageError("--all can't be combined with a filter")
    if not is_filtered and not everything:
        raise UsageError(
            "this would discard all open rejections, even those that no operator has seen; give "
            "--to with the time that `forebay rejections list` shows, another filter, or --all"
        )


@app.command()
def restore(
    *,
    database_url: options.DatabaseUrl = None,
    source: options.SourceUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """Restore the operators' decisions from the archive; a rebuild includes this step."""
    context = Context({DATABASE: database_url, ARCHIVE: source}, env)
    with context.connect(purpose=_PURPOSE) as connection:
        count = audit.restore(connection, context.archive)
    build_console(context, as_json=as_json).result(
        {"decisions": count}, f"{count:,} decisions restored from {context.archive.url}"
    )


def _build_selection(
    state: str,
    *,
    ids: Sequence[str] | None,
    resource: str | None = None,
    key: str | None = None,
    code: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Selection:
    known_state = next((known for known in STATES if known == state), None)
    if known_state is None:
        raise UsageError(f"--state {state} is not a state; use one of {', '.join(STATES)}")
    first, last = options.parse_range(since, until)
    return Selection(
        state=known_state,
        ids=[options.parse_uuid(text, "--id") for text in ids or ()],
        resource=resource,
        key=key,
        code=code,
        since=first,
        until=last,
    )


def _read_first(connection: Connection, selection: Selection, limit: int) -> list[Stored]:
    rows: list[Stored] = []
    for page in store.read_pages(connection, selection):
        rows += page[: limit - len(rows)]
        if len(rows) >= limit:
            break
    return rows


def _survey_retry(
    connection: Connection, planner: Planner, selection: Selection, limit: int
) -> Survey:
    survey = Survey(begun=len(store.list_begun(connection, "retried", selection)))
    for page in store.read_pages(connection, selection):
        attempts = planner.plan(connection, page)
        survey.counts.update(attempt.verdict for attempt in attempts)
        survey.shown += attempts[: limit - len(survey.shown)]
        survey.ids += [attempt.stored.id for attempt in attempts]
    return survey


def _build_decider(
    context: Context, connection: Connection, operator: str, ids: IdSource
) -> Decider:
    bucket = context.archive
    if not isinstance(bucket, Bucket):
        raise UsageError(
            f"{bucket.url} is a copy of an archive, and decisions are written to the archive's own "
            "bucket; give it with --source s3://bucket"
        )
    archive = Archive(context.s3, bucket.bucket)
    return Decider(connection, archive, by=operator, ids=ids)


def _name_operator(by: str | None) -> str:
    return f"operator:{by or getpass.getuser()}"


def _require_sent(counts: DecisionCounts) -> None:
    if counts.waiting:
        raise IncompleteError(
            f"{counts.waiting:,} commands are not sent yet, because the archive did not accept "
            f"them ({counts.error}); the next `forebay rejections retry` that selects them "
            "sends them"
        )
