"""Reads an archive up to a cut into a partition, comparing it with the ledger on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from forebay.apply import BadLine, Entry, Source
from forebay.apply.lines import read_lines
from forebay.apply.rejections import noted_keys
from forebay.archive.decisions import LogEntry, read_log
from forebay.command import Command
from ops.archive.invalid import InvalidLine
from ops.archive.listing import is_misplaced
from ops.archive.store import ObjectStore, StoredObject
from ops.folding.partition import Kind, Writer

_PAGE = 500
#: Objects that a result names, of those that it counts.
NAMED = 20
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
    #: How many objects hold commands of other times than their names say, and the first of them.
    misplaced: int = 0
    misplaced_named: list[str] = field(default_factory=list)

    def note_place(self, key: str, read: LedgerRow) -> None:
        """Count an object that is misplaced."""
        if read.first_id and read.last_id and is_misplaced(key, read.first_id, read.last_id):
            self.misplaced += 1
            self.misplaced_named += [key] * (len(self.misplaced_named) < NAMED)


class Numbers(NamedTuple):
    """The numbers that one of several readers gives its objects; no other one gives them."""

    reader: int = 0
    readers: int = 1

    def of(self, place: int) -> int:
        """The number of its object at that place, from 0."""
        return place * self.readers + self.reader


_ALONE = Numbers()


def scan(
    store: ObjectStore,
    writer: Writer,
    *,
    cut: str,
    objects: Iterator[StoredObject],
    ledger: Ledger | None,
    advance: Callable[[int], None],
    noted: Callable[[StoredObject, LedgerRow, int], None] = lambda *_: None,
    numbers: Numbers = _ALONE,
) -> Scanned:
    """Puts every command up to the cut into a partition.

    Args:
        store: the archive.
        writer: of the partition.
        cut: the greatest command id that counts.
        objects: of commands, by key.
        ledger: says which parts were applied; None where all of them count.
        advance: called after each object, with how many commands there were so far.
        noted: told each object, what its ledger row should say, and how many of its commands come
            after the cut.
        numbers: of the objects.

    Raises:
        TransientError: the archive did not answer.
    """
    scanned = Scanned()
    while page := list(islice(objects, _PAGE)):
        rows = ledger([found.key for found in page]) if ledger else None
        for found in page:
            row = rows.get(found.key) if rows is not None else None
            applied = _EVERYTHING if rows is None else row.lines if row else 0
            number = numbers.of(scanned.objects)
            adding = _Adding(writer, scanned, Source(found.key), cut, number)
            if store.is_copy and not found.size_bytes:
                adding.add_invalid(InvalidLine.of_empty(found.key))
            read, later = _read(store, adding, applied=applied)
            scanned.note_place(found.key, read)
            noted(found, read, later)
            # An object of later commands only is none of this cut's business.
            if rows is not None and (later == 0 or later < read.lines):
                _compare(scanned, number, found.key, row, read)
            scanned.objects += 1
            advance(scanned.commands)
    return scanned


def add_rejections(
    store: ObjectStore, writer: Writer, *, cut: str, position: int | None
) -> Iterator[LogEntry]:
    """Puts the archive's rejections into a partition; each entry of the decision log.

    Call it after `scan`: what was decided about a command after the command was read is known then.

    Args:
        store: the archive.
        writer: of the partition; its records must count as older than those of commands.
        cut: the greatest command id that counts.
        position: entries up to here must be in the database, later ones need not be there yet; None
            where all of them count.

    Raises:
        DecisionLogError: an entry is missing or damaged.
        TransientError: the archive did not answer.
    """
    for entry in read_log(store):
        known = position is None or entry.slot <= position
        kind = Kind.REJECTED if known else Kind.MAYBE_REJECTED
        for members in up_to(cut, entry):
            key = members["key"] if members["resource"] is not None else members["id"]
            writer.add(kind, str(key), members["id"])
        yield entry


def up_to(cut: str, entry: LogEntry) -> Iterator[Mapping[str, Any]]:
    """An entry's rejections of commands up to the cut, and of unreadable lines."""
    return (
        members
        for members in entry.rejections
        if members["resource"] is None or members["id"] <= cut
    )


def _read(store: ObjectStore, adding: _Adding, *, applied: int) -> tuple[LedgerRow, int]:
    """Reads one object; what the ledger should say of it, and how much of it is after the cut."""
    cut = adding.cut
    first = last = None
    done = later = 0
    for lines, entries in read_lines(store.read(adding.source.object)):
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
    adding.scanned.after_cut += later
    return LedgerRow(done, True, first, last), later


@dataclass(frozen=True, slots=True)
class _Adding:
    """Puts the lines of one object into the partition."""

    writer: Writer
    scanned: Scanned
    source: Source
    cut: str
    #: Of the object.
    number: int

    def add_invalid(self, line: InvalidLine) -> None:
        """A line that is no command."""
        self.writer.add(Kind.BAD_LINE, line.id, (self.number, line))

    def add(self, kind: Kind, lines: Sequence[bytes], entries: Sequence[Entry]) -> None:
        """Some lines of one kind, and their entries."""
        bad = [entry for entry in entries if isinstance(entry, BadLine)]
        self.scanned.unreadable_lines += len(bad)
        if kind is Kind.APPLIED:
            for line in [InvalidLine.of(self.source.object, entry) for entry in bad]:
                self.add_invalid(line)
        wanted = [entry for entry in entries if isinstance(entry, Command) and entry.id <= self.cut]
        self.scanned.commands += len(wanted)
        records = [(self.number, command) for command in wanted]
        keys = noted_keys([str(command.key) for command in wanted])
        self.writer.add_all(kind, zip(keys, records, strict=True), size_bytes=sum(map(len, lines)))


def _compare(
    scanned: Scanned, number: int, key: str, row: LedgerRow | None, read: LedgerRow
) -> None:
    if row is None or not row.complete:
        scanned.unapplied[number] = key
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
