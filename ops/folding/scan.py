"""Read an archive up to a cut into a partition, and compare it with the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from forebay.apply import Source
from forebay.archive.decisions import LogEntry, read_decision_log
from forebay.archive.layout import StoredObject
from forebay.archive.lines import Entry, InvalidLine, read_lines
from forebay.command import Command
from forebay.decisions.rejections import truncate_keys
from ops.archive.invalid import LineFault
from ops.archive.listing import is_misplaced
from ops.archive.store import ObjectStore
from ops.folding.partition import Kind, Writer

_PAGE = 500
#: Objects that a result names, of those that it counts.
NAMED = 20
_EVERYTHING = 2**63
#: The approximate ratio of lines to their gzip size; it determines the number of files only.
INFLATION = 6


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A ledger row: as the database has it, or as the object requires it."""

    lines: int
    complete: bool
    first_id: str | None
    last_id: str | None


#: Returns the ledger's rows of some objects. A rebuild has none: there, all commands count.
Ledger = Callable[[Sequence[str]], Mapping[str, LedgerRow]]


@dataclass(slots=True)
class Scanned:
    """The results of a scan."""

    objects: int = 0
    commands: int = 0
    #: Commands that were accepted after the cut.
    after_cut: int = 0
    rejections: int = 0
    #: Objects that the ledger does not call applied, by their numbers.
    unapplied: dict[int, str] = field(default_factory=dict)
    #: Differences between ledger rows and their objects.
    ledger_faults: list[dict[str, Any]] = field(default_factory=list)
    #: Number of ledger rows that were compared.
    ledger_rows: int = 0
    #: How many objects hold commands of other times than their names say, and the first of them.
    misplaced: int = 0
    misplaced_named: list[str] = field(default_factory=list)

    def record_place(self, key: str, read: LedgerRow) -> None:
        """Count an object that is misplaced."""
        if read.first_id and read.last_id and is_misplaced(key, read.first_id, read.last_id):
            self.misplaced += 1
            self.misplaced_named += [key] * (len(self.misplaced_named) < NAMED)


class Numbers(NamedTuple):
    """The object numbers of one of several readers; no two readers use the same number."""

    reader: int = 0
    readers: int = 1

    def of(self, place: int) -> int:
        """Return the number of the reader's object at that place, from 0."""
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
    add_ledger_row: Callable[[StoredObject, LedgerRow, int], None] = lambda *_: None,
    numbers: Numbers = _ALONE,
) -> Scanned:
    """Write every command up to the cut into a partition.

    Args:
        store: the archive.
        writer: a writer of the partition.
        cut: the greatest command id that counts.
        objects: the objects of commands, ordered by key.
        ledger: returns how much of each object is applied; None if all commands count.
        advance: called after each object with the number of commands so far.
        add_ledger_row: called with each object, the ledger row that it should have, and the number
            of its commands after the cut.
        numbers: the numbers for the objects.

    Raises:
        TransientError: the archive did not answer.
    """
    scanned = Scanned()
    while page := list(islice(objects, _PAGE)):
        rows = ledger([archive_object.key for archive_object in page]) if ledger else None
        for archive_object in page:
            row = rows.get(archive_object.key) if rows is not None else None
            applied = _EVERYTHING if rows is None else row.lines if row else 0
            number = numbers.of(scanned.objects)
            destination = _Adding(writer, scanned, Source(archive_object.key), cut, number)
            if store.is_copy and not archive_object.size_bytes:
                destination.add_invalid(LineFault.of_empty(archive_object.key))
            ledger_row, later = _read_object(store, destination, applied=applied)
            scanned.record_place(archive_object.key, ledger_row)
            add_ledger_row(archive_object, ledger_row, later)
            # An object with later commands only is outside of this cut.
            if rows is not None and (later == 0 or later < ledger_row.lines):
                _compare(scanned, number, archive_object.key, row, ledger_row)
            scanned.objects += 1
            advance(scanned.commands)
    return scanned


def add_decisions(
    store: ObjectStore, writer: Writer, *, cut: str, position: int | None
) -> Iterator[LogEntry]:
    """Write the archive's decisions into a partition; yield each entry of the decision log.

    Call it after `scan`, so that decisions made since a command was read are included.

    Args:
        store: the archive.
        writer: a writer of the partition with records that count as older than those of commands.
        cut: the greatest command id that counts.
        position: the database must have the entries up to this number, but need not have later
            entries yet; None if all entries count.

    Raises:
        DecisionLogError: an entry is missing or damaged.
        TransientError: the archive did not answer.
    """
    for entry in read_decision_log(store):
        is_known = position is None or entry.slot <= position
        kind = Kind.REJECTED if is_known else Kind.MAYBE_REJECTED
        for members in select_rejections_up_to(cut, entry):
            key = members["key"] if members["resource"] is not None else members["id"]
            writer.add(kind, str(key), members["id"])
        for members in entry.effects:
            if members["id"] <= cut:
                add_effect(writer, Kind.EFFECT if is_known else Kind.MAYBE_EFFECT, members)
        yield entry


def add_effect(writer: Writer, kind: Kind, members: Mapping[str, Any]) -> None:
    """Write the effect of a decided command into a partition.

    Args:
        writer: a writer of the partition with records that count as older than those of commands.
        kind: the kind of the record.
        members: of the effect, in the form of the decision log.
    """
    (key,) = truncate_keys([members["key"]])
    writer.add_all(kind, [(key, members)], size_bytes=len(str(members)))


def select_rejections_up_to(cut: str, entry: LogEntry) -> Iterator[Mapping[str, Any]]:
    """Return an entry's rejections of commands up to the cut, and of invalid lines."""
    return (
        members
        for members in entry.rejections
        if members["resource"] is None or members["id"] <= cut
    )


def select_effects_up_to(cut: str, entry: LogEntry) -> Iterator[Mapping[str, Any]]:
    """Return an entry's effects up to the cut: those with a place not after it.

    A command that was accepted before the cut may have its place after it. Then its sums may
    contain values of commands after the cut.
    """
    return (members for members in entry.effects if members["effective_id"] <= cut)


def _read_object(
    store: ObjectStore, destination: _Adding, *, applied: int
) -> tuple[LedgerRow, int]:
    """Read an object; return the ledger row that it should have, and its commands after the cut."""
    cut = destination.cut
    first = last = None
    line_count = later = 0
    for lines, entries in read_lines(store.read(destination.source.object)):
        ids = [entry.id for entry in entries if isinstance(entry, Command)]
        if ids:
            least, greatest = min(ids), max(ids)
            first = least if first is None else min(first, least)
            last = greatest if last is None else max(last, greatest)
            later += sum(command_id > cut for command_id in ids) if greatest > cut else 0
        boundary = max(0, min(applied - line_count, len(lines)))
        destination.add(Kind.APPLIED, lines[:boundary], entries[:boundary])
        destination.add(Kind.UNAPPLIED, lines[boundary:], entries[boundary:])
        line_count += len(lines)
    destination.scanned.after_cut += later
    return LedgerRow(line_count, True, first, last), later


@dataclass(frozen=True, slots=True)
class _Adding:
    """Writes the lines of one object into the partition."""

    writer: Writer
    scanned: Scanned
    source: Source
    cut: str
    #: The object's number.
    number: int

    def add_invalid(self, line: LineFault) -> None:
        """Add an invalid line."""
        self.writer.add(Kind.INVALID_LINE, line.id, (self.number, line))

    def add(self, kind: Kind, lines: Sequence[bytes], entries: Sequence[Entry]) -> None:
        """Add lines of one kind, and their entries."""
        if kind is Kind.APPLIED:
            for entry in entries:
                if isinstance(entry, InvalidLine):
                    self.add_invalid(LineFault.of(self.source.object, entry))
        commands = [
            entry for entry in entries if isinstance(entry, Command) and entry.id <= self.cut
        ]
        self.scanned.commands += len(commands)
        records = [(self.number, command) for command in commands]
        keys = truncate_keys([str(command.key) for command in commands])
        self.writer.add_all(kind, zip(keys, records, strict=True), size_bytes=sum(map(len, lines)))


def _compare(
    scanned: Scanned, number: int, key: str, row: LedgerRow | None, archived: LedgerRow
) -> None:
    if row is None or not row.complete:
        scanned.unapplied[number] = key
        return
    scanned.ledger_rows += 1
    if row != archived:
        scanned.ledger_faults.append(
            {
                "table": "forebay.ledger",
                "key": key,
                "archive": f"{archived.lines} lines, {archived.first_id} to {archived.last_id}",
                "database": f"{row.lines} lines, {row.first_id} to {row.last_id}",
            }
        )
