"""`forebay verify`: compare the archive with the database."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from forebay.ids import build_greatest_id
from ops import options
from ops.archive.listing import EARLIER
from ops.commands.arguments import build_console
from ops.console import Console, build_table
from ops.context import ARCHIVE, ATTACHMENTS, DATABASE, REPLICA, Context
from ops.cut import cut_of, get_cut_time
from ops.errors import IncompleteError, UsageError
from ops.exit_codes import ExitCode
from ops.verify import verify as verifying
from ops.verify.compare import Findings

_At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME|COMMAND_ID|now",
        help="Compare commands accepted up to this time or command (default: 25 minutes ago).",
    ),
]
_WithoutLedger = Annotated[
    bool,
    typer.Option(
        "--without-ledger",
        help="Expect every command up to the cut; for a database rebuilt to a point in time.",
    ),
]


def verify(
    *,
    at: _At = None,
    show: Annotated[
        int, typer.Option("--show", min=1, help="Name at most this many differences.")
    ] = 20,
    without_ledger: _WithoutLedger = False,
    scratch: options.Scratch = None,
    source: options.SourceUrl = None,
    database_url: options.DatabaseUrl = None,
    replica_url: options.ReplicaUrl = None,
    env: options.Env = None,
    as_json: options.Json = False,
) -> None:
    """Compare the tables with the archive's commands up to a cut. Makes no change."""
    context = Context({ARCHIVE: source, DATABASE: database_url, REPLICA: replica_url}, env)
    console = build_console(context, as_json=as_json)
    cut = cut_of(at, "--at") if at else build_greatest_id(dt.datetime.now(dt.UTC) - EARLIER)
    now = dt.datetime.now(dt.UTC)
    if (time := get_cut_time(cut)) and time > now:
        raise UsageError(f"--at {at} is in the future; use an earlier time, or now")
    result = verifying.verify(
        context, console, cut=cut, limit=show, scratch=scratch, trust_ledger=not without_ledger
    )
    _print(console, result)
    if result.missing:  # the missing objects may explain the differences
        raise IncompleteError(result.missing.sentence)
    if not result.is_clean:
        raise typer.Exit(ExitCode.FOUND)
    if result.unapplied or result.held or result.undecided or not result.agrees:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _print(console: Console, result: verifying.Verified) -> None:
    facts = result.facts()
    if console.as_json:
        console.result(facts)
        return
    columns = ["table", "archive", "database", "digest", "since", "differing"]
    rows = [
        (
            row["table"],
            row["rows_archive"],
            row["rows_database"],
            row.get("digest_database", "-"),
            row.get("changed_since_cut", 0),
            row["differing"],
        )
        for row in facts["tables"]
    ]
    console.result(facts, build_table(columns, rows))
    if result.findings.named:
        names = ["table", "key", "archive", "database"]
        console.result(
            facts,
            build_table(names, [[row[name] for name in names] for row in result.findings.named]),
        )
    console.result(facts, _summarize(result))


def _summarize(result: verifying.Verified) -> str:
    text = f"{result.scanned.commands:,} commands of {result.scanned.objects:,} objects: "
    if result.missing:
        text += f"the archive is incomplete; {result.findings.total:,} differences"
    elif result.agrees:
        text += "archive and database agree"
    elif result.is_clean:
        text += f"nothing was compared, because {_explain_no_comparison(result)}"
    else:
        text += _describe_differences(result.findings, result.attachments.missing)
    if result.attachments.is_skipped:
        text += (
            "; attachments were not checked, because their bucket is not known: set "
            f"{ATTACHMENTS.variable}, or name an environment with --env"
        )
    if result.unapplied:
        text += (
            f"; {len(result.unapplied):,} objects are not applied yet and were left out, "
            f"the first is {result.unapplied[0]}: `forebay sweep --dry-run` shows why"
        )
    if result.scanned.misplaced:
        text += (
            f"; {result.scanned.misplaced:,} objects have other times in their names than their "
            f"commands, the first is {result.scanned.misplaced_named[0]}: a search by time does "
            "not find them"
        )
    if result.skipped:
        text += f"; {result.skipped:,} commands of retired resources were skipped"
    if result.undecided:
        text += (
            f"; {result.undecided:,} commands with a condition or an increment have no decision: "
            "`forebay replay` decides"
        )
    if result.held:
        text += f"; {result.held:,} commands need a newer release"
    return text


def _explain_no_comparison(result: verifying.Verified) -> str:
    """Return why no row was compared, and how to compare now."""
    if result.lack:
        return result.lack
    if result.scanned.commands:
        return "none of these objects is applied"
    time = get_cut_time(result.cut)
    until = f"{time:%F %T} UTC" if time else result.cut
    return (
        f"no command was accepted up to the cut, {until} (25 minutes ago unless --at is given); "
        "`forebay verify --at now` includes all commands, and `forebay archive` lists the objects"
    )


def _describe_differences(findings: Findings, attachments: int) -> str:
    text = f"{findings.total:,} differences"
    if findings.outdated:
        text += f", {findings.outdated:,} of them outdated rows: `forebay replay` writes them again"
    if attachments:
        text += (
            f", {attachments:,} of them rows with an attachment whose object is missing: restore "
            "the object's version in the bucket, or set the field to null"
        )
    if findings.outdated + attachments < findings.total:
        text += (
            "; `forebay replay` applies missing commands, and corrects wrong rows after `forebay "
            "outdate`; `forebay rebuild` fills an empty database"
        )
    return text
