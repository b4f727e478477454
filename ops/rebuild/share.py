"""A reader's share of a rebuild: it reads a part of the objects, and folds a part of the keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from forebay.apply.edits.state import KeyState
from forebay.archive.layout import StoredObject
from forebay.command import KeyValue
from forebay.db.copy_text import copy_texts
from ops.archive.invalid import LineFault
from ops.context import Context
from ops.cut import list_commands_until
from ops.folding.fold import Tally, Winners, fold_bucket
from ops.folding.partition import Bucket, Files, Writer
from ops.folding.scan import LedgerRow, Numbers, Scanned, scan

# Rows of a block, which is copied by one COPY. The message about a refused row names its block.
_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one table, as the text of a COPY."""

    resource: str
    rows: int
    #: The id and the key of the first command, for a message about the block.
    first: str
    text: bytes


class RefusedCommand(NamedTuple):
    """A command that can't apply, with its key for `forebay history`, and the reason."""

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
    """The result of folding the commands of some keys."""

    blocks: Sequence[Block]
    #: Resource, key and version of each tombstone.
    tombstones: Sequence[tuple[str, str, str]]
    #: The states of keys with patches, by resource, without values.
    edits: Mapping[str, Mapping[KeyValue, KeyState]]
    tally: Tally
    #: Commands that can't apply and have no rejection.
    refused: Sequence[RefusedCommand]
    #: Invalid lines without a rejection in the archive.
    invalid: Sequence[LineFault]
    #: Commands that need a newer release.
    held: int
    #: The number of decided commands without a decision.
    undecided: int
    #: The numbers of the objects that are not applied completely.
    incomplete: AbstractSet[int]

    @property
    def commands(self) -> int:
        """The number of winners."""
        return sum(block.rows for block in self.blocks) + len(self.tombstones)


@dataclass(frozen=True, slots=True)
class Share:
    """The part of one reader; readers may run in separate processes."""

    context: Context
    #: The greatest command id that is included.
    cut: str
    #: The files of the partition; reader N is its writer N + 1.
    files: Files
    #: The folder for the readers' ledger files.
    ledgers: Path
    numbers: Numbers

    @property
    def ledger(self) -> Path:
        """The file with a line per object: key, lines, first and last id, completeness.

        Each line is a JSON array, because a key may contain tabs and line feeds.
        """
        return self.ledgers / str(self.numbers.reader)

    def read(self, advance: Callable[[int], None]) -> Scanned:
        """Read the share's objects into the partition and the ledger file.

        Args:
            advance: called after each object, with the number of commands so far.

        Raises:
            TransientError: the archive did not answer.
        """
        store = self.context.archive
        with (
            Writer(self.files, 1 + self.numbers.reader) as writer,
            self.ledger.open("wb") as ledger,
        ):

            def write_row(stored: StoredObject, row: LedgerRow, later: int) -> None:
                # An object with commands after the cut is not complete.
                fields = (stored.key, row.lines, row.first_id, row.last_id, not later)
                ledger.write(orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))

            return scan(
                store,
                writer,
                cut=self.cut,
                objects=filter(self._is_mine, list_commands_until(store, self.cut)),
                ledger=None,
                advance=advance,
                add_ledger_row=write_row,
                numbers=self.numbers,
            )

    def fold(self) -> Iterator[Folded | None]:
        """Yield the folded commands of the share's buckets, and None after each bucket.

        All shares must have been read before.
        """
        reader, readers = self.numbers
        for index in range(reader, self.files.of, readers):
            for bucket in self.files.buckets(index):
                yield self._fold_bucket(bucket)
            yield None

    def _is_mine(self, stored: StoredObject) -> bool:
        """Return whether an object belongs to this share, by its key.

        Numbers in the listing would not do: readers list the archive at different times, and it may
        have grown.
        """
        return crc32(stored.key.encode()) % self.numbers.readers == self.numbers.reader

    def _fold_bucket(self, bucket: Bucket) -> Folded:
        winners = fold_bucket(bucket, self.context.resources, cut=self.cut)
        return Folded(
            blocks=list(_build_blocks(winners)),
            tombstones=[
                (command.resource, str(command.key), command.id)
                for command in winners.applied.values()
                if command.op == "delete"
            ],
            edits=_group_edits(winners),
            tally=winners.tally,
            refused=[
                RefusedCommand(command.id, command.resource, str(command.key), reason)
                for command, reason in winners.refused
            ],
            invalid=[
                line
                for rejection, line in winners.invalid_lines.items()
                if rejection not in winners.rejected
            ],
            held=winners.held,
            undecided=len(winners.undecided),
            incomplete=winners.incomplete,
        )


def _group_edits(winners: Winners) -> dict[str, dict[KeyValue, KeyState]]:
    """Return the states of keys with patches, by resource and key."""
    grouped: dict[str, dict[KeyValue, KeyState]] = {}
    for (path, key), state in winners.edits.items():
        grouped.setdefault(path, {})[key] = replace(state, values={})
    return grouped


def _build_blocks(winners: Winners) -> Iterator[Block]:
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
