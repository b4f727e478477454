"""Reads an archive up to a cut into a partition, comparing it with the ledger on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from forebay.apply import BadLine, Entry, Rejection, Source
from forebay.apply.lines import read_lines
from forebay.apply.rejections import noted_key
from forebay.aws import archive
from forebay.aws.archive import REJECTIONS_PREFIX
from forebay.command import Command
from ops.archive.store import ObjectStore, StoredObject
from ops.console import Meter
from ops.folding.partition import Kind, Partition

_PAGE = 500
_EVERYTHING = 2**63
#: How many bytes of lines a byte of gzip comes to, roughly: decides the number of files only.
INFLATION = 6


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What the ledger says of an object."""

    lines: int
    complete: bool
    first_id: str | None
    last_id: str | None


#: Gives the ledger's rows of some objects. A rebuild has none: there, everything counts.
Ledger = Callable[[Sequence[str]], Mapping[str, LedgerRow]]


@dataclass(slots=True)
class Scanned:
    """What was met on the way."""

    objects: int = 0
    commands: int = 0
    #: Commands that were accepted after the cut.
    after_cut: int = 0
    unreadable_lines: int = 0
    rejections: int = 0
    #: Objects that the ledger does not call applied, by their numbers.
    unapplied: dict[int, str] = field(default_factory=dict)
    #: What is wrong with ledger rows.
    ledger_faults: list[dict[str, Any]] = field(default_factory=list)
    #: Ledger rows that were compared.
    ledger_rows: int = 0


def scan(
    store: ObjectStore,
    partition: Partition,
    *,
    cut: str,
    objects: Iterator[StoredObject],
    ledger: Ledger | None,
    meter: Meter,
    noted: Callable[[StoredObject, LedgerRow, int], None] = lambda *_: None,
) -> Scanned:
    """Puts every command up to the cut into the partition, rejections first.

    Args:
        store: the archive.
        partition: empty.
        cut: the greatest command id that counts.
        objects: of commands, by key.
        ledger: says which parts were applied; None where all of them count.
        meter: advanced by objects.
        noted: told each object, what its ledger row should say, and how many of its commands come
            after the cut. The first one is number 0, and so on.

    Raises:
        TransientError: the archive did not answer.
    """
    scanned = Scanned()
    _add_rejections(store, partition, cut, ledger, scanned)
    while page := list(islice(objects, _PAGE)):
        rows = ledger([found.key for found in page]) if ledger else None
        for found in page:
            row = rows.get(found.key) if rows is not None else None
            applied = _EVERYTHING if rows is None else row.lines if row else 0
            read, later = _read(store, found, partition, cut, applied=applied, scanned=scanned)
            noted(found, read, later)
            # An object of later commands only is none of this cut's business.
            if rows is not None and (later == 0 or later < read.lines):
                _compare(scanned, found.key, row, read)
            scanned.objects += 1
            meter.advance(1, note=f"{scanned.commands:,} commands")
    return scanned


def _add_rejections(
    store: ObjectStore,
    partition: Partition,
    cut: str,
    ledger: Ledger | None,
    scanned: Scanned,
) -> None:
    """Those of objects that are applied must be in the database, others need not be there yet."""
    known: tuple[str, bool] = ("", True)
    for told in read_rejections(store, cut):
        source = told["object"]
        if ledger is not None and source != known[0]:
            row = ledger([source]).get(source)
            known = (source, row is not None and row.complete)
        scanned.rejections += 1
        key = told["key"] if told["resource"] is not None else told["id"]
        kind = Kind.REJECTED if known[1] else Kind.MAYBE_REJECTED
        partition.add(kind, str(key), told["id"].encode())


def read_rejections(store: ObjectStore, cut: str) -> Iterator[dict[str, Any]]:
    """Every archived rejection of a command up to the cut, and of all lines that are none.

    Raises:
        NoRejectionsError: somebody else has written there.
    """
    for found in store.list(REJECTIONS_PREFIX):
        told_of = archive.read_rejections(f"{store.url}/{found.key}", store.read(found.key))
        yield from (told for told in told_of if told["resource"] is None or told["id"] <= cut)


def _read(
    store: ObjectStore,
    found: StoredObject,
    partition: Partition,
    cut: str,
    *,
    applied: int,
    scanned: Scanned,
) -> tuple[LedgerRow, int]:
    """Reads one object; what the ledger should say of it, and how much of it is after the cut."""
    adding = _Adding(partition, scanned, Source(found.key), cut)
    first = last = None
    done = later = 0
    for lines, entries in read_lines(store.read(found.key)):
        ids = [entry.id for entry in entries if isinstance(entry, Command)]
        if ids:
            low, high = min(ids), max(ids)
            first = low if first is None else min(first, low)
            last = high if last is None else max(last, high)
            later += sum(command_id > cut for command_id in ids) if high > cut else 0
        split = max(0, min(applied - done, len(lines)))
        adding.add(Kind.APPLIED, lines[:split], entries[:split])
        adding.add(Kind.UNAPPLIED, lines[split:], entries[split:])
        done += len(lines)
    scanned.after_cut += later
    return LedgerRow(done, True, first, last), later


@dataclass(frozen=True, slots=True)
class _Adding:
    """Puts the lines of one object into the partition."""

    partition: Partition
    scanned: Scanned
    source: Source
    cut: str

    def add(self, kind: Kind, lines: Sequence[bytes], entries: Sequence[Entry]) -> None:
        """Some lines of one kind, and their entries."""
        prefix = b"%d\t" % self.scanned.objects
        bad = [entry for entry in entries if isinstance(entry, BadLine)]
        self.scanned.unreadable_lines += len(bad)
        if kind is Kind.APPLIED:
            for line_id in [Rejection.of_line(entry, self.source).id for entry in bad]:
                self.partition.add(Kind.BAD_LINE, line_id, prefix + line_id.encode())
        wanted = [
            (noted_key(str(entry.key)), line)
            for entry, line in zip(entries, lines, strict=True)
            if not isinstance(entry, BadLine) and entry.id <= self.cut
        ]
        self.scanned.commands += len(wanted)
        self.partition.add_all(kind, wanted, prefix)


def _compare(scanned: Scanned, key: str, row: LedgerRow | None, read: LedgerRow) -> None:
    if row is None or not row.complete:
        scanned.unapplied[scanned.objects] = key
        return
    scanned.ledger_rows += 1
    if row != read:
        scanned.ledger_faults.append(
            {
                "table": "forebay.ledger",
                "key": key,
                "archive": f"{read.lines} lines, {read.first_id} to {read.last_id}",
                "database": f"{row.lines} lines, {row.first_id} to {row.last_id}",
            }
        )
