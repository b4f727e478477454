"""Applies one chunk inside the caller's transaction, isolating the commands that can't apply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from forebay.apply.fold import Folded, fold
from forebay.apply.outcome import BadLine, Counts, Entry, Rejection, Source
from forebay.apply.rejections import RejectionBook
from forebay.apply.table import TableApplier
from forebay.apply.upcast import are_all_current, upcast
from forebay.command import Command
from forebay.db.connect import Connection
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec

# A deferred constraint would fail at the commit, where nobody can tell who is guilty. And of a
# table, however large, apply wants only the rows of a chunk's keys: the planner, which knows
# a staging table badly, must not come to think that reading all of it would be as quick.
_BEGIN = "SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL enable_seqscan = off"


class ChunkApplier:
    """Applies chunks of one source over one connection."""

    def __init__(
        self,
        connection: Connection,
        source: Source,
        resources: Mapping[str, ResourceSpec],
        archive_rejections: Callable[[Sequence[Rejection]], None],
    ) -> None:
        self._connection = connection
        self._resources = resources
        self._book = RejectionBook(connection, source, archive_rejections)
        self._tables: dict[str, TableApplier] = {}
        #: Upcast commands as the archive has them: a rejection tells what was archived.
        self._archived: dict[str, Command] = {}

    def apply(self, entries: Sequence[Entry]) -> tuple[Counts, str | None]:
        """Applies a chunk; what became of its lines, and why some were held back, if any were.

        Raises:
            psycopg.Error: not the data's fault; the transaction must be rolled back.
        """
        self._connection.execute(_BEGIN)
        self._book.open()
        self._archived = {}
        commands, held = self._readable(entries)
        known = self._book.known([command.id for command in commands])
        if known:
            commands = [command for command in commands if command.id not in known]
        folded = fold(commands)
        counts = Counts()
        for applier, winners in self._by_table(folded):
            counts += self._apply_with_runners_up(applier, winners, folded)
        new, seen_before = self._book.close()
        counts += Counts(
            superseded=folded.superseded,
            duplicates=folded.duplicates + len(known) + seen_before,
            rejected=new,
        )
        return counts, held

    def _readable(self, entries: Sequence[Entry]) -> tuple[list[Command], str | None]:
        commands: list[Command] = []
        for entry in entries:
            if isinstance(entry, BadLine):
                self._book.reject_line(entry)
            else:
                commands.append(entry)
        if are_all_current(commands, self._resources):
            return commands, None
        return self._made_current(commands)

    def _made_current(self, found: Iterable[Command]) -> tuple[list[Command], str | None]:
        commands: list[Command] = []
        held: str | None = None
        for entry in found:
            spec = self._resources.get(entry.resource)
            if spec is None:
                self._book.reject(entry, "unknown_resource", f"no resource {entry.resource!r}")
            elif not spec.fits_key(entry.key):
                self._book.reject(entry, "key_invalid", f"{entry.key!r} is no key of {spec.path}")
            elif entry.schema > spec.schema_version:
                held = held or (
                    f"command {entry.id} has schema version {entry.schema} of {spec.path}, this "
                    f"release knows {spec.schema_version}; deploy the newer release"
                )
            else:
                try:
                    current = upcast(entry, spec)
                except BodyError as exc:
                    self._book.reject(entry, exc.code, str(exc))
                    continue
                if current is not entry:
                    self._archived[entry.id] = entry
                commands.append(current)
        return commands, held

    def _by_table(self, folded: Folded) -> list[tuple[TableApplier, list[Command]]]:
        """Winners by table: all locks are taken first, in one order for all consumers.

        The tables then come in the order of their enforced references, what is referred to first.
        """
        groups: dict[str, list[Command]] = {}
        for command in folded.winners.values():
            groups.setdefault(command.resource, []).append(command)
        losers = [command for losers in folded.losers.values() for command in losers]
        deleting = {c.resource for c in (*folded.winners.values(), *losers) if c.op == "delete"}
        appliers = sorted((self._table(path) for path in groups), key=lambda found: found.lock_id)
        for applier in appliers:
            applier.lock(exclusive=applier.spec.path in deleting)
        appliers.sort(key=lambda found: self._depth(found.spec.path))
        return [(applier, groups[applier.spec.path]) for applier in appliers]

    def _depth(self, path: str, seen: frozenset[str] = frozenset()) -> int:
        """How many enforced references lead on from a resource, one behind the other."""
        targets = {
            field.references.path
            for field in self._resources[path].fields
            if field.references is not None and field.references.enforced
        }
        seen |= {path}  # references may run in a circle
        return max((1 + self._depth(target, seen) for target in targets - seen), default=0)

    def _table(self, path: str) -> TableApplier:
        if path not in self._tables:
            self._tables[path] = TableApplier(self._connection, self._resources[path])
        return self._tables[path]

    def _apply_with_runners_up(
        self, applier: TableApplier, winners: list[Command], folded: Folded
    ) -> Counts:
        """A rejected winner's place goes to the next best command of its key, and so on."""
        counts = Counts()
        while winners:
            done, refusals = applier.apply(winners)
            counts += done
            winners = []
            for refusal in refusals:
                archived = self._archived.get(refusal.command.id, refusal.command)
                self._book.reject(archived, refusal.code, refusal.detail, sqlstate=refusal.sqlstate)
                runner_up = folded.runner_up(refusal.command)
                if runner_up is not None:
                    winners.append(runner_up)
        return counts
