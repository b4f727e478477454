"""`forebay rejections`: commands that can never apply, and what people decide about them."""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from forebay.aws.archive import Archive
from forebay.aws.firehose import FirehoseSink
from forebay.db.connect import Connection
from forebay.ids import IdSource
from forebay.intake.acceptance import Acceptor
from ops import options
from ops.archive.store import Bucket
from ops.console import Console, short, table
from ops.context import ARCHIVE, DATABASE, STREAMS, Context
from ops.errors import IncompleteError, RefusedError, UsageError
from ops.event_log import ConsoleLog
from ops.rejections import audit, rules, store
from ops.rejections.deciding import Decider, Done
from ops.rejections.planning import VERDICTS, Attempt, Planner
from ops.rejections.store import STATES, Selection, Stored

app = typer.Typer(help="Commands that can never apply: look, mend and send again, or discard.")

_SHOWN = 20
_PURPOSE = "rejections"

_Ids = Annotated[list[str] | None, typer.Option("--id", help="Only this one; may be repeated.")]
_Resource = Annotated[str | None, typer.Option(help="Only of this resource.")]
_Key = Annotated[str | None, typer.Option(help="Only of this key.")]
_Code = Annotated[str | None, typer.Option(help="Only with this code.")]
_Since = Annotated[str | None, typer.Option("--from", help="Rejected at this time or later.")]
_Until = Annotated[str | None, typer.Option("--to", help="Rejected before this time.")]
_By = Annotated[str | None, typer.Option("--by", help="Your name in the record (default: login).")]
_Streams = Annotated[
    str | None,
    typer.Option("--streams", help="The delivery streams, with commas. [env var: FOREBAY_STREAMS]"),
]


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
    limit: Annotated[int, typer.Option(min=0, help="Show so many; all are counted.")] = _SHOWN,
    database_url: options.DatabaseUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """List rejections, and count them by resource and code."""
    selection = _selection(
        state, ids=ids, resource=resource, key=key, code=code, since=since, until=until
    )
    context = Context({DATABASE: database_url}, env)
    with context.connect_for_reading(purpose=_PURPOSE) as connection:
        counts = store.count(connection, selection)
        shown = _first(connection, selection, limit)
    total = sum(number for _, _, number in counts)
    console = Console(as_json=as_json, databases=context.databases)
    if not as_json:
        console.show(table(["resource", "code", "rejections"], counts))
        console.show(
            table(
                ["id", "rejected at", "resource", "key", "op", "code", "state", "detail"],
                [
                    (one.id, f"{one.rejected_at:%F %T}", one.resource, one.key, one.op, one.code,
                     one.state, short(one.detail))
                    for one in shown
                ],
            )
        )  # fmt: skip
    console.result(
        {
            "state": state,
            "total": total,
            "counts": [
                {"resource": path, "code": name, "count": number} for path, name, number in counts
            ],
            "rejections": [_row(one) for one in shown],
        },
        f"{total:,} {'' if state == 'all' else state + ' '}rejections, {len(shown):,} shown",
    )


@app.command()
def show(
    rejection: Annotated[str, typer.Argument(help="The rejection's id, which is its command's.")],
    *,
    database_url: options.DatabaseUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """Show one rejection: why, the archived line, and what was decided."""
    context = Context({DATABASE: database_url}, env)
    selection = _selection("all", ids=[rejection])
    with context.connect_for_reading(purpose=_PURPOSE) as connection:
        found = _first(connection, selection, 1)
    if not found:
        raise RefusedError(
            f"there is no rejection {rejection}; `forebay rejections list --state all` lists them"
        )
    Console(as_json=as_json, databases=context.databases).facts(
        {**_row(found[0]), "line": found[0].line.decode("utf-8", "backslashreplace")}
    )


@app.command()
def retry(
    *,
    fix: Annotated[
        Path | None, typer.Option(help="Rules that mend the commands (docs/cli.md).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be sent.")
    ] = False,
    state: Annotated[str, typer.Option(help="open or discarded.")] = "open",
    ids: _Ids = None,
    resource: _Resource = None,
    key: _Key = None,
    code: _Code = None,
    since: _Since = None,
    until: _Until = None,
    even_overtaken: Annotated[
        bool,
        typer.Option(
            "--even-overtaken",
            help="Also where the key has been written since, which this then undoes.",
        ),
    ] = False,
    reason: Annotated[str | None, typer.Option(help="For the record.")] = None,
    by: _By = None,
    limit: Annotated[int, typer.Option(min=0, help="Show so many; all are counted.")] = _SHOWN,
    database_url: options.DatabaseUrl = None,
    source: options.SourceUrl = None,
    streams: _Streams = None,
    env: options.Env = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Send rejected commands again, mended by rules, as new commands that say what they amend."""
    if state not in {"open", "discarded"}:
        raise UsageError(f"--state {state} can't be retried; it is open or discarded")
    selection = _selection(
        state, ids=ids, resource=resource, key=key, code=code, since=since, until=until
    )
    chosen = rules.load(fix) if fix else None
    context = Context({DATABASE: database_url, ARCHIVE: source, STREAMS: streams}, env)
    console = Console(as_json=as_json, databases=context.databases)
    id_source, operator = IdSource(), _operator(by)
    planner = Planner(
        context.resources, by=operator, ids=id_source, rules=chosen, even_overtaken=even_overtaken
    )
    with context.connect(purpose=_PURPOSE) as connection:
        counts, shown = _survey(connection, planner, selection, limit)
        if not as_json:
            console.show(_attempts(shown))
        if dry_run:
            _tell_retry(console, counts, shown, None, dry_run=True)
            return
        console.confirm(
            f"Send {counts['ready']:,} of {counts.total():,} rejected commands again? "
            f"{_others(counts)}",
            yes=yes,
        )
        decider = _decider(context, connection, console, operator, id_source)
        done = decider.resume()
        with console.progress("retry", unit="commands", total=counts["ready"]) as meter:
            for page in store.pages(connection, selection):
                sent = decider.retry(planner.plan(connection, page), reason=reason)
                done += sent
                meter.advance(sent.recorded)
    _tell_retry(console, counts, shown, done, dry_run=False)
    _complain(done)


@app.command()
def discard(
    *,
    reason: Annotated[str, typer.Option(help="Why; kept in the record.")],
    ids: _Ids = None,
    resource: _Resource = None,
    key: _Key = None,
    code: _Code = None,
    since: _Since = None,
    until: _Until = None,
    by: _By = None,
    database_url: options.DatabaseUrl = None,
    source: options.SourceUrl = None,
    streams: _Streams = None,
    env: options.Env = None,
    as_json: options.Json = False,
    yes: options.Yes = False,
) -> None:
    """Put open rejections aside: they stay rejected, and are no longer listed as open."""
    selection = _selection(
        "open", ids=ids, resource=resource, key=key, code=code, since=since, until=until
    )
    context = Context({DATABASE: database_url, ARCHIVE: source, STREAMS: streams}, env)
    console = Console(as_json=as_json, databases=context.databases)
    with context.connect(purpose=_PURPOSE) as connection:
        total = sum(number for _, _, number in store.count(connection, selection))
        console.confirm(f"Discard {total:,} open rejections?", yes=yes)
        decider = _decider(context, connection, console, _operator(by), IdSource())
        done = decider.resume()
        for page in store.pages(connection, selection):
            done += decider.discard(page, reason)
    console.result(
        {"run": decider.run, "discarded": done.recorded, "taken": done.taken},
        f"{done.recorded:,} rejections discarded",
    )
    _complain(done)


@app.command()
def restore(
    *,
    database_url: options.DatabaseUrl = None,
    source: options.SourceUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """Take over from the archive what was decided about rejections; a rebuild does so itself."""
    context = Context({DATABASE: database_url, ARCHIVE: source}, env)
    with context.connect(purpose=_PURPOSE) as connection:
        changed = audit.restore(connection, context.archive)
    Console(as_json=as_json, databases=context.databases).result(
        {"decisions": changed}, f"{changed:,} decisions taken over from {context.archive.url}"
    )


def _selection(
    state: str,
    *,
    ids: Sequence[str] | None,
    resource: str | None = None,
    key: str | None = None,
    code: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Selection:
    named = next((known for known in STATES if known == state), None)
    if named is None:
        raise UsageError(f"--state {state} is none of {', '.join(STATES)}")
    return Selection(
        state=named,
        ids=[options.uuid(text, "--id") for text in ids or ()],
        resource=resource,
        key=key,
        code=code,
        since=options.moment(since, "--from") if since else None,
        until=options.moment(until, "--to") if until else None,
    )


def _first(connection: Connection, selection: Selection, limit: int) -> list[Stored]:
    found: list[Stored] = []
    for page in store.pages(connection, selection):
        found += page[: limit - len(found)]
        if len(found) >= limit:
            break
    return found


def _survey(
    connection: Connection, planner: Planner, selection: Selection, limit: int
) -> tuple[Counter[str], list[Attempt]]:
    """What a retry would do: how many of each verdict, and the first few."""
    counts: Counter[str] = Counter()
    shown: list[Attempt] = []
    for page in store.pages(connection, selection):
        attempts = planner.plan(connection, page)
        counts.update(attempt.verdict for attempt in attempts)
        shown += attempts[: limit - len(shown)]
    return counts, shown


def _decider(
    context: Context, connection: Connection, console: Console, operator: str, ids: IdSource
) -> Decider:
    bucket = context.archive
    if not isinstance(bucket, Bucket):
        raise UsageError(f"{bucket.url} is a copy; decisions go to the archive's own bucket")
    archive = Archive(context.s3, bucket.bucket)
    sink = FirehoseSink(context.firehose, context.get(STREAMS).split(","))
    acceptor = Acceptor(sink, archive, ConsoleLog(console))
    return Decider(connection, acceptor, archive, by=operator, ids=ids)


def _operator(by: str | None) -> str:
    return f"operator:{by or getpass.getuser()}"


def _attempts(shown: Sequence[Attempt]) -> Any:  # noqa: ANN401 - a rich table
    return table(
        ["rejection", "resource", "key", "code", "rule", "verdict", "change or reason"],
        [
            (
                attempt.stored.id,
                attempt.stored.resource,
                attempt.stored.key,
                attempt.stored.code,
                attempt.rule,
                attempt.verdict,
                attempt.reason or _difference(attempt),
            )
            for attempt in shown
        ],
    )


def _difference(attempt: Attempt) -> str:
    """The members that differ, as they were and as they would be."""
    before, after = _flat(attempt.before), _flat(attempt.after)
    return (
        "; ".join(
            f"{name}: {short(_said(before, name), 40)} → {short(_said(after, name), 40)}"
            for name in [*before, *(name for name in after if name not in before)]
            if _said(before, name) != _said(after, name)
        )
        or "as it was"
    )


def _flat(document: Any) -> dict[str, Any]:  # noqa: ANN401 - what a command holds
    return {
        **(document["body"] or {}),
        "(resource)": document["resource"],
        "(key)": document["key"],
    }


def _said(members: dict[str, Any], name: str) -> str:
    return repr(members[name]) if name in members else "nothing"


def _others(counts: Counter[str]) -> str:
    others = [f"{counts[verdict]:,} {verdict}" for verdict in VERDICTS[1:] if counts[verdict]]
    return f"Left as they are: {', '.join(others)}." if others else "None is left out."


def _tell_retry(
    console: Console,
    counts: Counter[str],
    shown: Sequence[Attempt],
    done: Done | None,
    *,
    dry_run: bool,
) -> None:
    said = f"{counts['ready']:,} would be sent again." if dry_run else ""
    if done is not None:
        said = f"{done.recorded:,} sent again."
    console.result(
        {
            "dry_run": dry_run,
            "verdicts": {verdict: counts[verdict] for verdict in VERDICTS},
            "sent": done.recorded if done else 0,
            "waiting": done.waiting if done else 0,
            "taken": done.taken if done else 0,
            "commands": [
                {
                    "rejection": attempt.stored.id,
                    "verdict": attempt.verdict,
                    "reason": attempt.reason,
                    "rule": attempt.rule,
                    "before": attempt.before,
                    "after": attempt.after,
                }
                for attempt in shown
            ],
        },
        f"{said} {_others(counts)}",
    )


def _complain(done: Done) -> None:
    if done.waiting:
        raise IncompleteError(
            f"{done.waiting:,} commands were accepted by neither the delivery stream nor the "
            "archive; they are kept, and the next `forebay rejections retry` sends them"
        )


def _row(stored: Stored) -> dict[str, Any]:
    return {
        "id": stored.id,
        "rejected_at": stored.rejected_at,
        "resource": stored.resource,
        "key": stored.key,
        "op": stored.op,
        "code": stored.code,
        "sqlstate": stored.sqlstate,
        "detail": stored.detail,
        "object": stored.object,
        "state": stored.state,
        "command": stored.command,
        "by": stored.by,
        "decided_at": stored.decided_at,
        "rule": stored.rule,
        "reason": stored.reason,
    }
