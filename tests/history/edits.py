"""Check the keys with patches: values, decisions and statuses against the model of law 2.

The archive shows which of the writes without an answer were stored. The decisions are given; the
checker derives from the clients' record what they must be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forebay.command import Command
from tests.fixtures.edits import Decisions, Item, fold
from tests.history.operations import Edited, Final, Operation, Place
from tests.history.violations import Violation, find_turns

INCREMENT = "$increment"
#: The member that counts; clients read it, add to it and write it with `If-Match`.
COUNTER = "population"
#: Members with texts that no two writes have in common.
_UNIQUE = ("name", "timezone")


def check_edits(history: Sequence[Operation], final: Final) -> list[Violation]:
    """Return every broken promise about keys with patches.

    Args:
        history: the operations on these keys, in any order.
        final: the state after everything accepted was applied.
    """
    return list(_Check(history, final).violations()) if final.edits.keys else []


def adds(body: Mapping[str, Any] | None) -> int | None:
    """The summand of a body's increment; None without an increment."""
    value = (body or {}).get(COUNTER)
    return int(value[INCREMENT]) if isinstance(value, dict) else None


class _Check:
    def __init__(self, history: Sequence[Operation], final: Final) -> None:
        self._history = sorted(history, key=lambda operation: operation.began)
        self._final = final
        archived = [Command(**members) for members in final.edits.archived]
        self._archived = {command.id: command for command in archived}
        self._passed = final.edits.passed
        decisions = Decisions(set(final.rejected), dict(self._passed))
        self._model = {
            (command.resource, str(key)): item
            for key, item in fold(archived, decisions).items()
            for command in archived
            if command.key == key
        }
        self._writes: defaultdict[Place, list[Operation]] = defaultdict(list)
        for operation in self._history:
            if operation.is_write and operation.place:
                self._writes[operation.place].append(operation)
        self._by_id = {
            operation.command_id: operation
            for operation in self._history
            if operation.is_acknowledged
        }

    def violations(self) -> Iterator[Violation]:
        for operation in self._history:
            if operation.is_acknowledged:
                yield from self._write(operation)
            if operation.found:
                yield from self._read(operation)
        for command in self._archived.values():
            yield from self._source(command)
        for place, edited in self._final.edits.keys.items():
            yield from self._state(place, edited)
            yield from self._sum(place, edited)
        yield from self._conditions()
        yield from self._tags()
        yield from self._statuses()

    # Writes

    def _write(self, write: Operation) -> Iterator[Violation]:
        command = self._archived.get(str(write.command_id))
        if command is None:
            yield Violation("accepted write lost", "it is not in the archive", write)
        elif not _is_from(command, write):
            yield Violation("value never written", f"the archive has {command}", write)
        is_decided = write.is_conditional or adds(write.sent) is not None
        is_rejected = write.command_id in self._final.rejected
        if is_rejected and not is_decided:
            yield Violation("rejected without a fault", str(write.command_id), write)
        if is_decided and is_rejected == (write.command_id in self._passed):
            yield Violation("not decided once", str(write.command_id), write)

    def _source(self, command: Command) -> Iterator[Violation]:
        """Check that a client has sent an archived command."""
        if command.id in self._by_id:
            return
        writes = self._writes[command.resource, str(command.key)]
        if not any(write.is_open and _is_from(command, write) for write in writes):
            yield Violation("value never written", f"the archive has {command}")

    # The final state

    def _state(self, place: Place, edited: Edited) -> Iterator[Violation]:
        item = self._model.get(place, Item())
        expected = (item.values, item.base, item.tombstone, item.fields)
        found = (edited.values, edited.base, edited.tombstone, dict(edited.fields))
        if expected != found:
            yield Violation("the state is not the model's", f"{place}: {expected}, not {found}")

    def _sum(self, place: Place, edited: Edited) -> Iterator[Violation]:
        """Check a key that was made once, and then only counted and patched."""
        commands = [c for c in self._archived.values() if (c.resource, str(c.key)) == place]
        whole = [c for c in commands if c.op != "patch"]
        counted = [c for c in commands if c.op == "patch" and COUNTER in (c.body or {})]
        if len(whole) != 1 or edited.values is None or not counted:
            return
        total = int((whole[0].body or {})[COUNTER])
        for command in counted:
            by = adds(command.body)
            if command.id in self._passed:
                total += 1 if by is None else by  # each compare-and-set adds 1
        if edited.values[COUNTER] != total:
            yield Violation("update lost", f"{place}: {edited.values[COUNTER]}, not {total}")

    # Conditions

    def _conditions(self) -> Iterator[Violation]:
        """Check that at most one write passed each condition on a state or on a unique text.

        A write that has passed replaces the state or the text, which never comes back.
        """
        passed: dict[tuple[Place | None, str], Operation] = {}
        for write in self._history:
            if write.command_id not in self._passed or not write.is_acknowledged:
                continue
            expected = [write.tag] if write.tag else []
            expected += [str(value) for value in (write.where or {}).values()]
            for text in expected:
                other = passed.setdefault((write.place, text), write)
                if other is not write:
                    yield Violation("two writes passed one condition", str(other), write)

    # Reads

    def _read(self, read: Operation) -> Iterator[Violation]:
        body = read.got
        if body is None or read.place is None:
            return
        if body[COUNTER] < 0:
            yield Violation("below the bound", str(body[COUNTER]), read)
        for name in _UNIQUE:
            sources = [
                write
                for write in self._writes[read.place]
                if (write.sent or {}).get(name) == body[name] and write.began <= read.ended
            ]
            if not sources:
                yield Violation("value never written", f"{name}: {body[name]}", read)
            elif all(
                write.is_refused or write.command_id in self._final.rejected for write in sources
            ):
                yield Violation("rejected write applied", f"{name}: {body[name]}", read)
            else:
                yield from self._order(read, name, sources)

    def _order(
        self, read: Operation, name: str, sources: Sequence[Operation]
    ) -> Iterator[Violation]:
        """Check that a read after a patch has that patch's value, or a newer."""
        after = self._by_id.get(str(read.read_after))
        if after is None or after.kind != "patch" or name not in (after.sent or {}):
            return
        if after.command_id in self._final.rejected:
            return
        newest = max((self._place_id(write) for write in sources), default=None)
        if newest is not None and newest < self._place_id(after):
            yield Violation("older than asked", f"{name} is from {newest}", read)

    def _place_id(self, write: Operation) -> str:
        """The id that decides the write's place; the greatest possible without an answer."""
        if write.command_id is None:
            return "~"
        place, _ = self._passed.get(write.command_id, (write.command_id, None))
        return place

    def _tags(self) -> Iterator[Violation]:
        """Check that the entity tag differs if the content differs."""
        contents: dict[tuple[Place | None, str], Any] = {}
        for read in self._history:
            if read.shown_tag is None or read.got is None:
                continue
            content = contents.setdefault((read.place, read.shown_tag), read.got)
            if content != read.got:
                yield Violation("one tag, two contents", f"{content}", read)

    # Statuses

    def _statuses(self) -> Iterator[Violation]:
        statuses: defaultdict[str, list[Operation]] = defaultdict(list)
        for told in self._history:
            if told.kind == "status" and told.fate is not None:
                statuses[str(told.command_id)].append(told)
                expected = self._status(told)
                if told.began > self._final.at and told.fate not in expected:
                    yield Violation("the status is not the model's", f"{expected}", told)
        for answers in statuses.values():
            # A delete sends newer patches back to waiting, and a put brings them back.
            final = [told for told in answers if told.fate == "rejected"]
            yield from find_turns(answers if final else [])

    def _status(self, told: Operation) -> set[str]:
        command = self._archived.get(str(told.command_id))
        if told.command_id in self._final.rejected:
            return {"rejected"}
        if command is None or told.place is None:
            return {"pending", "superseded"}
        item = self._model[told.place]
        place, _ = self._passed.get(command.id, (command.id, None))
        if place in {item.base, item.tombstone, *item.fields.values()}:
            return {"applied"}
        if command.op == "patch" and item.values is None:
            # Of a key without an item, old patches are forgotten.
            return {"pending"} if place in item.kept else {"pending", "superseded"}
        return {"superseded"}


def _is_from(command: Command, write: Operation) -> bool:
    """Return whether a command is what the write sent."""
    sent, body = write.sent or {}, command.body or {}
    return command.op == write.kind and all(
        body.get(name) == value for name, value in sent.items() if name != "geonameid"
    )
