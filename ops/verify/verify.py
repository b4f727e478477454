"""A complete verification."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from forebay.archive.decisions import read_decision_log
from forebay.archive.layout import StoredObject
from forebay.aws.attachments import AttachmentStore
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.errors import HeldError
from forebay.failures import read_failures
from forebay.ids import is_command_id
from ops.archive.layout import describe_lack
from ops.archive.listing import count_objects
from ops.archive.missing import Missing, find_missing
from ops.archive.store import ObjectStore
from ops.console import Console, Meter
from ops.context import ATTACHMENTS, Context
from ops.cut import get_cut_time, list_commands_until
from ops.folding.fold import Winners, fold_bucket
from ops.folding.partition import Kind, Partition, Writer
from ops.folding.scan import (
    INFLATION,
    Ledger,
    LedgerRow,
    Scanned,
    add_decisions,
    scan,
    select_rejections_up_to,
)
from ops.rejections import audit
from ops.verify.attachments import TABLE as ATTACHED
from ops.verify.attachments import AttachmentCheck
from ops.verify.compare import Findings, TableComparison
from ops.verify.decision_log import LogComparison
from ops.verify.decisions import TABLE as DECISIONS
from ops.verify.decisions import DecisionCheck
from ops.verify.edits import TABLE as EDITS
from ops.verify.edits import EditsCheck
from ops.verify.effects import TABLE as EFFECTS
from ops.verify.effects import add_own_effects, check_effects
from ops.verify.ledger import check_counts, check_tombstones
from ops.verify.newer import NewerCheck
from ops.verify.rejections import check_members

_PAGE = 5_000
_REJECTIONS = "forebay.rejections"
_LEDGER = "forebay.ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The result of a verification."""

    cut: str
    scanned: Scanned
    tables: list[dict[str, Any]]
    findings: Findings
    #: Objects that are not applied yet and have no effects in the tables.
    unapplied: list[str]
    held: int
    #: The number of decided commands in applied objects without a decision.
    undecided: int
    #: The number of keys, and of rejections of commands, that were compared.
    compared: int
    #: Commands of retired resources, which verify skips.
    skipped: int
    #: The archive's URL.
    archive: str
    #: The reason for which the archive has no commands to compare, if so.
    lack: str | None
    #: Objects that the ledger has and the archive lacks.
    missing: Missing
    #: The attachments of rows.
    attachments: AttachmentCheck

    @property
    def is_clean(self) -> bool:
        """True if there are no differences, apart from commands that are not applied yet."""
        return not self.findings.total

    @property
    def agrees(self) -> bool:
        """True if rows were compared, no object was missing, and there was no difference."""
        return self.is_clean and not self.missing and self.compared + self.skipped > 0

    def facts(self) -> dict[str, Any]:
        """Return the result for the operator."""
        cut = get_cut_time(self.cut)
        return {
            "archive": self.archive,
            "cut": self.cut,
            "cut_accepted": cut.isoformat() if cut else None,
            "objects": self.scanned.objects,
            "commands": self.scanned.commands,
            "commands_after_cut": self.scanned.after_cut,
            "rejections": self.scanned.rejections,
            "held": self.held,
            "undecided": self.undecided,
            "objects_not_applied": len(self.unapplied),
            "not_applied": self.unapplied[: self.findings.limit],
            **self.missing.facts(),
            "objects_misplaced": self.scanned.misplaced,
            "misplaced": self.scanned.misplaced_named,
            "compared": self.compared,
            "skipped": self.skipped,
            "attachments_missing": self.attachments.missing,
            "attachments_checked": not self.attachments.is_skipped,
            "tables": self.tables,
            "differences": self.findings.total,
            "outdated": self.findings.outdated,
            "named": self.findings.named,
            "agrees": self.agrees,
        }


def verify(
    context: Context,
    console: Console,
    *,
    cut: str,
    limit: int,
    scratch: Path | None,
    trust_ledger: bool = True,
) -> Verified:
    """Compare the archive's commands up to the cut with the tables; make no change.

    Args:
        context: the addresses of archive and database; a replica is used if one is configured.
        console: shows the progress.
        cut: the greatest command id that counts.
        limit: the number of differences to name.
        scratch: folder for temporary files of about the size of the inflated archive.
        trust_ledger: False if the database was rebuilt to a point in time: then every command up to
            the cut is expected, whatever the ledger contains.
    """
    store = context.archive
    total, size = count_objects(list_commands_until(store, cut))
    with (
        tempfile.TemporaryDirectory(prefix="forebay-", dir=scratch) as folder,
        # Two writers: the records of the first, rejections, count as older than commands.
        Partition(
            Path(folder) / "buckets", expected_bytes=size * INFLATION, writers=2
        ) as partition,
        context.connect_for_reading(purpose="verify") as connection,
    ):
        ledger = partial(_read_ledger, connection) if trust_ledger else None
        with console.progress("read the archive", unit="objects", total=total) as meter:
            scanned, crossing = _add_commands(store, partition, cut, ledger, meter)
            verifier = _Verifier(connection, context, cut, Findings(limit))
            log_comparison = verifier.add_decisions(store, partition, scanned)
        with console.progress("compare", unit="commands", total=scanned.commands) as meter:
            for bucket in partition.buckets():
                winners = fold_bucket(bucket, context.resources, cut=cut)
                verifier.compare(winners, trust_ledger=trust_ledger)
                meter.advance(len(winners.applied))
        verifier.compare_whole_tables(partition)
        verifier.compare_newer(store, crossing, Path(folder) / "newer")
        verifier.compare_members(store, scanned, log_comparison)
        log_comparison.judge(verifier.findings)
        verifier.check_attachments()
        unapplied = verifier.judge_ledger(scanned)
        missing = find_missing(connection, store)
        return verifier.summarize(store, scanned, unapplied, missing)


def _add_commands(
    store: ObjectStore, partition: Partition, cut: str, ledger: Ledger | None, meter: Meter
) -> tuple[Scanned, dict[str, StoredObject]]:
    """Write the archive's commands into the partition.

    Returns:
        The counts, and by key the objects that also hold commands after the cut.
    """
    crossing: dict[str, StoredObject] = {}
    with Writer(partition.files, 1) as writer:
        scanned = scan(
            store,
            writer,
            cut=cut,
            objects=list_commands_until(store, cut),
            ledger=ledger,
            add_ledger_row=lambda archive_object, _, later: crossing.update(
                {archive_object.key: archive_object} if later else {}
            ),
            advance=lambda commands: meter.advance(1, note=f"{commands:,} commands"),
        )
    return scanned, crossing


class _Verifier:
    """The comparisons of all tables."""

    def __init__(
        self, connection: Connection, context: Context, cut: str, findings: Findings
    ) -> None:
        self.findings = findings
        self._held = 0
        self._undecided = 0
        self._compared = 0
        self._skipped = 0
        self._connection = connection
        self._context = context
        self._cut = cut
        self._ledger_faults = 0
        self._decisions: DecisionCheck | None = None
        self._rejections = [0, 0, 0]  # in the archive, in the database, differing
        self._effects = [0, 0, 0]  # the same
        self._edits = EditsCheck(connection, context.resources, cut, findings)
        self._attachments = AttachmentCheck()
        self._later: list[Command] = []
        self._held_in: set[int] = set()
        self._comparisons = [
            TableComparison(connection, spec, cut, findings, tombstones=tombstones)
            for spec in context.resources.values()
            for tombstones in (False, True)
        ]

    def add_decisions(
        self, store: ObjectStore, partition: Partition, scanned: Scanned
    ) -> LogComparison:
        """Write the decisions and patches of the database, and the archive's decisions.

        The database is read before the archive, which is always written first. Both are read after
        the commands, so that decisions made since then are included.
        """
        log_comparison = LogComparison.read(self._connection)
        with Writer(partition.files, 0) as writer:
            _add_database_rejections(
                self._connection, writer, self._cut, is_owner=log_comparison.is_owner
            )
            add_own_effects(self._connection, writer, log_comparison, self._cut)
            self._edits.add_rows(writer)
            for entry in add_decisions(
                store, writer, cut=self._cut, position=log_comparison.position
            ):
                scanned.rejections += sum(1 for _ in select_rejections_up_to(self._cut, entry))
                log_comparison.meet(entry)
        return log_comparison

    def compare(self, winners: Winners, *, trust_ledger: bool) -> None:
        """Compare everything in one bucket."""
        self._held += winners.held
        self._undecided += len(winners.undecided)
        self._later += winners.later
        self._compared += len(winners.applied) + sum(map(is_command_id, winners.rejected))
        self._skipped += winners.tally.skipped.total()
        self._held_in |= winners.held_in
        for command, reason in winners.refused:
            self.findings.add(
                _REJECTIONS, command.id, f"{command.id} can't apply: {reason}", "no rejection"
            )
        if trust_ledger:
            for command in winners.undecided.values():
                self.findings.add(
                    EFFECTS, command.id, "no decision", "the ledger calls its object applied"
                )
            self._effects[2] += len(winners.undecided)
        self._compare_rejections(winners)
        self._edits.compare(winners)
        for comparison in self._comparisons:
            comparison.compare(winners)

    def compare_whole_tables(self, partition: Partition) -> None:
        """Find the rows that are in no bucket; keys are read only if the digests differ."""
        slices_by_comparison = {
            comparison: slices for comparison in self._comparisons if (slices := comparison.scan())
        }
        if not slices_by_comparison:
            return
        for bucket in partition.buckets():
            if not any(
                number in bucket.slices
                for numbers in slices_by_comparison.values()
                for number in numbers
            ):
                continue
            winners = fold_bucket(bucket, self._context.resources, cut=self._cut)
            for comparison, slices in slices_by_comparison.items():
                comparison.find_extra(bucket, slices, winners)

    def compare_newer(
        self, store: ObjectStore, crossing: Mapping[str, StoredObject], folder: Path
    ) -> None:
        """Verify the rows and tombstones that are newer than the cut."""
        check = NewerCheck(
            self._connection,
            store,
            self._context.resources,
            self._cut,
            self._comparisons,
            crossing,
            self._edits,
            self._later,
        )
        check.run(folder)
        check_tombstones(self._connection, self._context.resources, self.findings)

    def compare_members(
        self, store: ObjectStore, scanned: Scanned, log_comparison: LogComparison
    ) -> None:
        """Compare all members of decisions, and the numbers of the ledger."""
        self._rejections[2] += check_members(
            self._connection, lambda: _read_rejections(store), self._cut, self.findings
        )
        in_archive, in_database, differing = check_effects(
            self._connection, lambda: read_decision_log(store), log_comparison, self.findings
        )
        self._effects = [in_archive, in_database, differing + self._effects[2]]
        self._decisions = DecisionCheck(
            self._connection, lambda: audit.read_lines(store), self._cut, self.findings
        )
        self._decisions.run()
        faulty_keys = {fault["key"] for fault in scanned.ledger_faults}
        self._ledger_faults = check_counts(self._connection, self.findings, known=faulty_keys)

    def check_attachments(self) -> None:
        """Look the objects up that rows name as attachments."""
        context = self._context
        if not any(spec.attachments for spec in context.resources.values()):
            return
        bucket = context.find(ATTACHMENTS)
        store = None if bucket is None else AttachmentStore(context.s3, bucket)
        self._attachments.run(self._connection, context.resources, store, self.findings)

    def judge_ledger(self, scanned: Scanned) -> list[str]:
        """Add the differences of the ledger; return the objects that are merely not applied yet."""
        for fault in scanned.ledger_faults:
            self.findings.add(**fault)
        # An earlier release has applied a part of them, and this release has not received them yet.
        held_before = {
            key
            for key, failure in read_failures(
                self._connection, list(scanned.unapplied.values())
            ).items()
            if failure.error.startswith(f"{HeldError.__name__}:")
        }
        unapplied: list[str] = []
        for number, key in scanned.unapplied.items():
            is_held = number in self._held_in or key in held_before
            is_ahead = number in self.findings.ahead and not is_held
            row = _read_ledger(self._connection, [key]).get(key)
            if row is not None and row.complete:
                continue  # it was being applied during the verification
            # With an incomplete row, a chunk may wait for its decisions: its other commands are in
            # the tables already.
            if is_ahead and row is None:
                self.findings.add(_LEDGER, key, "its commands are in the tables", "no row")
            else:
                unapplied.append(key)
        return unapplied

    def summarize(
        self, store: ObjectStore, scanned: Scanned, unapplied: list[str], missing: Missing
    ) -> Verified:
        """Return the result of all comparisons."""
        return Verified(
            cut=self._cut,
            scanned=scanned,
            tables=self._describe_tables(scanned),
            findings=self.findings,
            unapplied=unapplied,
            held=self._held,
            undecided=self._undecided,
            compared=self._compared,
            skipped=self._skipped,
            archive=store.url,
            lack=describe_lack(store),
            missing=missing,
            attachments=self._attachments,
        )

    def _describe_tables(self, scanned: Scanned) -> list[dict[str, Any]]:
        """Return the comparison of each table."""
        rows = [comparison.compared.facts() for comparison in self._comparisons]
        edits = self._edits
        rows.append(
            {
                **_build_row(EDITS, edits.in_archive, edits.in_database, edits.differing),
                "changed_since_cut": edits.changed_since,
            }
        )
        rows.append(_build_row(_REJECTIONS, *self._rejections))
        rows.append(_build_row(EFFECTS, *self._effects))
        if (check := self._decisions) is not None:
            rows.append(_build_row(DECISIONS, check.in_archive, check.in_database, check.differing))
        attached = self._attachments
        rows.append(
            _build_row(ATTACHED, attached.rows - attached.missing, attached.rows, attached.missing)
        )
        differing = len(scanned.ledger_faults) + self._ledger_faults
        rows.append(_build_row(_LEDGER, scanned.objects, scanned.ledger_rows, differing))
        return rows

    def _compare_rejections(self, winners: Winners) -> None:
        archived = winners.rejected | winners.invalid_lines.keys()
        in_database = winners.in_database
        self._rejections[0] += len(archived)
        self._rejections[1] += len(in_database)
        for rejected in sorted(archived - in_database):
            line = winners.invalid_lines.get(rejected)
            if line is None or rejected in winners.rejected:
                self.findings.add(_REJECTIONS, rejected, "rejected", "absent")
            else:
                reason = f"invalid line: {line.code}: {line.detail}"
                self.findings.add(_REJECTIONS, str(line), reason, "no rejection")
        extra = in_database - archived - winners.maybe_rejected - winners.privately_rejected
        for rejected in sorted(extra):
            self.findings.add(_REJECTIONS, rejected, "absent", "rejected")
        self._rejections[2] += len(archived - in_database) + len(extra)


def _build_row(table: str, archive: int, database: int, differing: int) -> dict[str, Any]:
    return {
        "table": table,
        "rows_archive": archive,
        "rows_database": database,
        "differing": differing,
    }


def _read_ledger(connection: Connection, keys: Sequence[str]) -> Mapping[str, LedgerRow]:
    """Return the ledger's rows of some objects, by key."""
    rows = connection.execute(
        "SELECT object, lines, completed_at IS NOT NULL, first_id::text, last_id::text"
        " FROM forebay.ledger WHERE object = ANY(%s)",
        [list(keys)],
    ).fetchall()
    return {row[0]: LedgerRow(int(row[1]), row[2], row[3], row[4]) for row in rows}


def _read_rejections(store: ObjectStore) -> Iterator[Mapping[str, Any]]:
    """Yield every rejection of the decision log, with the number of its entry."""
    for entry in read_decision_log(store):
        for members in entry.rejections:
            yield {**members, "slot": entry.slot}


def _add_database_rejections(
    connection: Connection, writer: Writer, cut: str, *, is_owner: bool
) -> None:
    """Write the database's rejections of the cut's commands, and of all invalid lines."""
    last = "00000000-0000-0000-0000-000000000000"
    while page := connection.execute(
        "SELECT id::text, resource, key, slot FROM forebay.rejections"
        " WHERE id > %s::uuid AND (resource IS NULL OR id <= %s::uuid) ORDER BY id LIMIT %s",
        [last, cut, _PAGE],
    ).fetchall():
        for rejected, resource, key, slot in page:
            place = key if resource is not None else rejected
            writer.add(Kind.IN_DATABASE, place, rejected)
            if slot is None and not is_owner:
                writer.add(Kind.PRIVATELY_REJECTED, place, rejected)
        last = page[-1][0]
