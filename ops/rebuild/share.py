"""One reader's share of a rebuild: it reads some of the objects, and folds some of the keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from forebay.apply.rows import copy_texts
from ops.archive.invalid import LineFault
from ops.archive.store import StoredObject
from ops.context import Context
from ops.cut import commands_until
from ops.folding.fold import Tally, Winners, fold_bucket
from ops.folding.partition import Bucket, Files, Writer
from ops.folding.scan import LedgerRow, Numbers, Scanned, scan

# Rows of a block, copied by a COPY of its own: what Postgres refuses is among so many.
_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of one table, for COPY."""

    resource: str
    rows: int
    #: The first command, for a message about the block.
    first: str
    text: bytes


class Unfit(NamedTuple):
    """A command that can't apply, as `forebay history` finds it, and why."""

    id: str
    resource: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.id} of {self.resource} {self.key} ({self.reason})"

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result."""
        return self._asdict()


@dataclass(frozen=True, slots=True)
class Folded:
    """What the commands of some keys come to."""

    blocks: Sequence[Block]
    #: Resource, key and version of each.
    tombstones: Sequence[tuple[str, str, str]]
    tally: Tally
    #: Commands that can't apply and were never rejected.
    unfit: Sequence[Unfit]
    #: Lines that are no commands, and of which the archive has no rejection.
    invalid: Sequence[LineFault]
    #: Commands that need a newer release.
    held: int

    @property
    def commands(self) -> int:
        """How many have won."""
        return sum(block.rows for block in self.blocks) + len(self.tombstones)


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several readers does; any of them may be in a process of its own."""

    context: Context
    #: The greatest command id that counts.
    cut: str
    #: Of the partition; reader 0 is its writer 1, and so on.
    files: Files
    #: A folder for what the ledger will say.
    ledgers: Path
    numbers: Numbers

    @property
    def ledger(self) -> Path:
        """A line for each object that it has read: key, lines, first and last id, completeness.

        Each line is a JSON array, because a key may hold tabs and line feeds.
        """
        return self.ledgers / str(self.numbers.reader)

    def read(self, advance: Callable[[int], None]) -> Scanned:
        """Reads its objects into the partition and the ledger.

        Args:
            advance: called after each object, with how many commands there were so far.

        Raises:
            TransientError: the archive did not answer.
        """
        store = self.context.archive
        with (
            Writer(self.files, 1 + self.numbers.reader) as writer,
            self.ledger.open("wb") as noted,
        ):

            def note(found: StoredObject, read: LedgerRow, later: int) -> None:
                # Where commands after the cut are left out, the object is not applied.
                fields = (found.key, read.lines, read.first_id, read.last_id, not later)
                noted.write(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))

            return scan(
                store,
                writer,
                cut=self.cut,
                objects=filter(self._is_mine, commands_until(store, self.cut)),
                ledger=None,
                advance=advance,
                noted=note,
                numbers=self.numbers,
            )

    def fold(self) -> Iterator[Folded | None]:
        """What its buckets come to, when everybody has read; None after each of them."""
        reader, readers = self.numbers
        for index in range(reader, self.files.of, readers):
            for bucket in self.files.buckets(index):
                yield self._folded(bucket)
            yield None

    def _is_mine(self, found: StoredObject) -> bool:
        """By the name: readers list the archive at different times, and it may have grown."""
        return crc32(found.key.encode()) % self.numbers.readers == self.numbers.reader

    def _folded(self, bucket: Bucket) -> Folded:
        winners = fold_bucket(bucket, self.context.resources)
        return Folded(
            blocks=list(_blocks(winners)),
            tombstones=[
                (command.resource, str(command.key), command.id)
                for command in winners.applied.values()
                if command.op == "delete"
            ],
            tally=winners.tally,
            unfit=[
                Unfit(command.id, command.resource, str(command.key), reason)
                for command, reason in winners.unfit
            ],
            invalid=[
                line
                for rejection, line in winners.bad_lines.items()
                if rejection not in winners.rejected
            ],
            held=winners.held,
        )


def _blocks(winners: Winners) -> Iterator[Block]:
    for path, rows in winners.rows.items():
        for start in range(0, len(rows), _ROWS):
            block = rows.part(start, start + _ROWS)
            first = block.commands[0]
            yield Block(
                path,
                len(block),
                f"{first.id}, key {first.key}",
                b"".join(copy_texts(block.columns)),
            )
