"""Commands that a replay could not apply at their turn, tried again when everything else is there.

Objects are replayed in any order, so a command may come before the one that gives up a unique
value, or before the row that it refers to. What still fails in the end is rejected only if nothing
was decided about it and nothing could change it: the ledger must not call the object applied, the
reason must not be this release's code, and not other rows unless the replay is of everything, into
the database that owns the archive. An operator can ask for more (`rebuild --allow-new-rejections`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from forebay.apply import Counts, Outcome, Source, apply
from forebay.apply.results import Ledger
from forebay.archive.lines import CHUNK_COMMANDS, Entry, InvalidLine
from forebay.db.connect import Connection
from forebay.decisions.log import DecisionLog
from forebay.decisions.refusals import Refusal
from forebay.resource.spec import ResourceSpec

#: Commands kept in memory; an object beyond it fails, and a resumed run tries it again.
MAX_COMMANDS = 200_000


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one object with leftovers."""

    key: str
    size_bytes: int
    #: Of the whole object, leftovers included.
    outcome: Outcome
    #: What the leftovers added to the counts.
    added: Counts
    #: Why some of them could not be applied.
    error: str | None


@dataclass(slots=True)
class _Object:
    """An object with leftovers."""

    size_bytes: int
    outcome: Outcome
    left: Sequence[Refusal]
    added: Counts = Counts()  # noqa: RUF009 - frozen


def settle_at_once(
    connection: Connection,
    log: DecisionLog,
    resources: Mapping[str, ResourceSpec],
    source: Source,
    outcome: Outcome,
) -> Outcome:
    """Rejects what no other command and no other release can change, such as too long a text.

    Args:
        connection: to the primary, autocommit.
        log: where decisions go.
        resources: the declarations, by path.
        source: the object that was replayed.
        outcome: of that, with commands that could not be applied.

    Returns:
        The outcome with what is left.
    """
    key = source.object
    if _is_applied(connection, key):
        return outcome
    item = _Object(0, outcome, outcome.undecided)
    _Trying(connection, log, resources).decide(
        key,
        item,
        keep=lambda one: one.needs_other_release or one.depends_on_other_rows,
        in_turn=False,
    )
    total = replace(outcome, counts=outcome.counts + item.added, undecided=tuple(item.left))
    if not item.left and not source.partial:
        _note_in_ledger(connection, key, total)
    return total


class Leftovers:
    """The leftovers of one replay."""

    def __init__(self) -> None:
        self._objects: dict[str, _Object] = {}
        self._commands = 0

    def __bool__(self) -> bool:
        return bool(self._objects)

    def add(self, key: str, size_bytes: int, outcome: Outcome) -> bool:
        """Keeps an object's leftovers; False if there are too many already."""
        if self._commands + len(outcome.undecided) > MAX_COMMANDS:
            return False
        self._commands += len(outcome.undecided)
        self._objects[key] = _Object(size_bytes, outcome, outcome.undecided)
        return True

    def settle(
        self,
        connection: Connection,
        log: DecisionLog,
        resources: Mapping[str, ResourceSpec],
        *,
        is_everything: bool,
        decides_conflicts: bool = True,
        rejects_all: bool = False,
    ) -> Iterator[Settled]:
        """Tries everything again, and decides about the rest where that may be done.

        Args:
            connection: to the primary, autocommit.
            log: where decisions go.
            resources: the declarations, by path.
            is_everything: whether the replay is of all commands.
            decides_conflicts: whether it has all objects, so that conflicts may be decided.
            rejects_all: reject whatever can't be applied.
        """
        trying = _Trying(connection, log, resources)
        while trying.once_each(self._objects):
            pass
        left = [one.entry for item in self._objects.values() for one in item.left]
        if len(left) > 1 and len(self._objects) > 1:
            # All together: commands of several objects may stand in each other's way in a ring.
            trying.all_together(left)
            trying.once_each(self._objects)
        rejects_conflicts = is_everything and decides_conflicts and log.may_extend()
        for key, item in self._objects.items():
            if item.left and rejects_all:
                trying.decide(key, item, keep=lambda _: False, in_turn=True)
            elif item.left and not _is_applied(connection, key):
                trying.decide(
                    key,
                    item,
                    keep=lambda one: (
                        one.needs_other_release
                        or (one.depends_on_other_rows and not rejects_conflicts)
                    ),
                    in_turn=rejects_conflicts,
                )
        for key, item in self._objects.items():
            total = replace(item.outcome, counts=item.outcome.counts + item.added, undecided=())
            if not item.left and is_everything:
                _note_in_ledger(connection, key, total)
            yield Settled(key, item.size_bytes, total, item.added, _error(item.left))


@dataclass(frozen=True, slots=True)
class _Trying:
    """Applies leftovers over one connection."""

    connection: Connection
    log: DecisionLog
    resources: Mapping[str, ResourceSpec]

    def once_each(self, objects: Mapping[str, _Object]) -> bool:
        """Tries each object's leftovers; whether fewer are left."""
        fewer = False
        for key, item in objects.items():
            if not item.left:
                continue
            outcome = self._apply(key, [one.entry for one in item.left], decides=False)
            fewer = fewer or len(outcome.undecided) < len(item.left)
            item.left, item.added = outcome.undecided, item.added + outcome.counts
        return fewer

    def all_together(self, entries: Sequence[Entry]) -> None:
        """Tries leftovers of all objects as one."""
        self._apply("leftovers of all objects", entries, decides=False)

    def decide(
        self, key: str, item: _Object, *, keep: Callable[[Refusal], bool], in_turn: bool
    ) -> None:
        """Rejects what can't be applied, but for keys with a command that is to be kept.

        Args:
            key: of the object.
            item: the object.
            keep: whether nothing is to be decided about a command.
            in_turn: whether the others of a key may be decided about when its winner is rejected.
        """
        several = Counter(_target(one.entry) for one in item.left)
        keys = {
            _target(one.entry)
            for one in item.left
            if keep(one) or (not in_turn and several[_target(one.entry)] > 1)
        }
        keys.discard(None)  # lines that are no commands, each of which stands for itself
        mine = [one.entry for one in item.left if _target(one.entry) not in keys]
        if mine:
            item.added += self._apply(key, mine, decides=True).counts
        item.left = [one for one in item.left if _target(one.entry) in keys]

    def _apply(self, key: str, entries: Sequence[Entry], *, decides: bool) -> Outcome:
        return apply(
            self.connection,
            _chunks(entries),
            # Only a part of the object, so the ledger is not touched.
            Source(key, replay=True, partial=True),
            resources=self.resources,
            log=self.log,
            decides=decides,
        )


def _chunks(entries: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
    for start in range(0, len(entries), CHUNK_COMMANDS):
        yield entries[start : start + CHUNK_COMMANDS]


def _target(entry: Entry) -> tuple[str, object] | None:
    return None if isinstance(entry, InvalidLine) else (entry.resource, entry.key)


def _is_applied(connection: Connection, key: str) -> bool:
    """Whether the live run has decided about every command of an object."""
    row = connection.execute(
        "SELECT completed_at IS NOT NULL FROM forebay.ledger WHERE object = %s", [key]
    ).fetchone()
    return row is not None and bool(row[0])


def _note_in_ledger(connection: Connection, key: str, total: Outcome) -> None:
    Ledger(connection, Source(key, replay=True)).advance(
        start=0, end=total.lines, ids=(), counts=total.counts, total=total, is_last=True
    )


def _error(left: Sequence[Refusal]) -> str | None:
    if not left:
        return None
    first = left[0]
    name = "an unreadable line" if isinstance(first.entry, InvalidLine) else first.entry.id
    return (
        f"{len(left):,} commands can't be applied, and a replay may not reject them; the first "
        f"one: {name}: {first.detail}. Use the release that can apply them; if the object was "
        "never applied, forebay sweep hands it to the consumer, which decides"
    )
