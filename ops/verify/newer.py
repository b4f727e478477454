"""Verify rows and tombstones that are newer than the cut: the archive must have their commands.

A version after the cut exempts a row from the comparison. Without this step, a wrong row with an
invented version would be exempted, too. So the archive is read beyond the cut, after the tables:
an object is archived before it is applied, so the archive must hold every version that a table
has shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from forebay.apply.prepare import make_current
from forebay.archive.layout import StoredObject
from forebay.archive.lines import read_lines
from forebay.command import Body, Command
from forebay.db.connect import Connection
from forebay.decisions.effects import find_effects
from forebay.decisions.rejections import truncate_keys
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec
from ops.archive.listing import list_commands
from ops.archive.store import ObjectStore
from ops.cut import get_cut_time
from ops.folding.bodies import build_completer
from ops.folding.partition import Bucket, Kind, Partition, Writer
from ops.folding.scan import INFLATION
from ops.verify.compare import TableComparison
from ops.verify.edits import EditsCheck

_ROWS = 2_000  # in one statement
_NO_COMMAND = "this key has no such command"


@dataclass(frozen=True, slots=True)
class NewerCheck:
    """The verification of all rows and tombstones that are newer than the cut."""

    connection: Connection
    store: ObjectStore
    resources: Mapping[str, ResourceSpec]
    cut: str
    comparisons: Sequence[TableComparison]
    #: By key, the objects up to the cut that also hold later commands.
    crossing: Mapping[str, StoredObject]
    edits: EditsCheck
    #: Decided commands up to the cut with places after it, as plain commands.
    later: Sequence[Command]

    def run(self, folder: Path) -> None:
        """Report each newer row that no command of the archive has made.

        Args:
            folder: for temporary files; created, and removed with its content.

        Raises:
            TransientError: the archive did not answer.
        """
        size = sum(archive_object.size_bytes for archive_object in self._list_objects())
        with Partition(folder, expected_bytes=size * INFLATION) as partition:
            if not self._add_rows(partition.writer):
                return
            self._add_commands(partition.writer)
            for bucket in partition.buckets():
                self._check(bucket)

    def _list_objects(self) -> Iterator[StoredObject]:
        yield from self.crossing.values()
        for archive_object in list_commands(self.store, since=get_cut_time(self.cut)):
            if archive_object.key not in self.crossing:
                yield archive_object

    def _add_rows(self, writer: Writer) -> int:
        """Add table, key and version of every newer row; return their number."""
        count = 0
        for number, comparison in enumerate(self.comparisons):
            for key, version in comparison.list_newer():
                writer.add(Kind.IN_DATABASE, key, (number, key, version))
                count += 1
        for path, key, patch_id in self.edits.list_newer():
            writer.add(Kind.EDITS, key, (path, key, patch_id))
            count += 1
        return count

    def _add_commands(self, writer: Writer) -> None:
        """Add every archived command that is newer than the cut, or has its place after it."""
        for command in self.later:
            writer.add(Kind.UNAPPLIED, str(command.key), command)
        for archive_object in self._list_objects():
            for lines, entries in read_lines(self.store.read(archive_object.key)):
                commands = [
                    entry for entry in entries if isinstance(entry, Command) and entry.id > self.cut
                ]
                keys = truncate_keys([str(command.key) for command in commands])
                writer.add_all(
                    Kind.UNAPPLIED,
                    zip(keys, commands, strict=True),
                    size_bytes=sum(map(len, lines)),
                )

    def _check(self, bucket: Bucket) -> None:
        commands: dict[str, Command] = {}
        rows: dict[int, list[tuple[str, str]]] = defaultdict(list)
        patches: list[tuple[str, str, str]] = []
        for kind, contents in bucket.runs():
            if kind is Kind.UNAPPLIED:
                commands.update((command.id, command) for command in map(Command._make, contents))
            elif kind is Kind.EDITS:
                patches += contents
            else:
                for number, key, version in contents:
                    rows[number].append((key, version))
        self._apply_effects(commands)
        for path, key, patch_id in patches:
            patch = commands.get(patch_id)
            if patch is None or (patch.op, patch.resource, str(patch.key)) != ("patch", path, key):
                self.edits.report_unknown(path, key, patch_id)
        for number, newer in rows.items():
            comparison = self.comparisons[number]
            patched = {key for path, key, _ in patches if path == comparison.spec.path}
            expected = self._find_commands(comparison, newer, commands, patched)
            while chunk := list(islice(expected, _ROWS)):
                self._compare(comparison, chunk)

    def _apply_effects(self, commands: dict[str, Command]) -> None:
        """Replace the decided commands by the plain commands that they became."""
        ids = [c.id for c in commands.values() if c.op == "patch" or c.condition is not None]
        for effect in find_effects(self.connection, ids).values():
            command = effect.apply_to(commands.pop(effect.id))
            commands[command.id] = command

    def _find_commands(
        self,
        comparison: TableComparison,
        newer: Sequence[tuple[str, str]],
        commands: Mapping[str, Command],
        patched: Collection[str],
    ) -> Iterator[Command]:
        """Yield the rows' commands, with bodies as in a row; report the rows without a command.

        Args:
            comparison: the rows' table.
            newer: the rows' keys and versions.
            commands: the commands by id.
            patched: the keys with newer patches.
        """
        spec = comparison.spec
        complete = build_completer(spec)
        for key, version in newer:
            command = commands.get(version)
            if command is None or not comparison.is_of(command, key):
                comparison.report(key, _NO_COMMAND, version)
                continue
            if command.schema > spec.schema_version:
                continue  # only the newer release that made this row knows its values
            try:
                complete_commands, encoded = complete([make_current(command, spec)])
            except BodyError as exc:
                comparison.report(key, f"{version} can't apply: {exc}", version)
                continue
            for refusal in encoded.refusals:
                comparison.report(key, f"{version} can't apply: {refusal.detail}", version)
            for each in complete_commands:
                fields = comparison.read_patches(key) if key in patched else {}
                yield self._add_patches(each, commands, fields)

    def _add_patches(
        self, base: Command, commands: Mapping[str, Command], fields: Mapping[str, str]
    ) -> Command:
        """Return a row's command with the values of the patches that the row has."""
        values: Body = {}
        for name, patch_id in fields.items():
            patch = commands.get(patch_id)
            if patch is None or (patch.resource, patch.key) != (base.resource, base.key):
                continue  # reported as a patch that the archive does not have
            with suppress(BodyError):  # the row would have no such field
                body = make_current(patch, self.resources[patch.resource]).body or {}
                values |= {name: body[name]} if name in body else {}
        return base._replace(body={**(base.body or {}), **values}) if values else base

    def _compare(self, comparison: TableComparison, commands: Sequence[Command]) -> None:
        for command in self._filter_rejected(commands):
            comparison.report(str(command.key), f"{command.id} is rejected", command.id)
        by_key = {str(command.key): command.id for command in commands}
        for key, version in comparison.find_differing(commands):
            # With another version, live traffic has changed the row since it was listed.
            if version == by_key[key]:
                comparison.report(key, version, f"{version} with other values")

    def _filter_rejected(self, commands: Sequence[Command]) -> list[Command]:
        rows = self.connection.execute(
            "SELECT id::text FROM forebay.rejections WHERE id = ANY(%s::uuid[])",
            [[command.id for command in commands]],
        ).fetchall()
        ids = {row[0] for row in rows}
        return [command for command in commands if command.id in ids]
