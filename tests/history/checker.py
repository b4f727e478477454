"""Find broken promises of the API from the clients' requests and answers alone.

The method is that of Jepsen's checkers: the checker neither inspects the pipeline nor uses its
code. A write without an answer, or with a 5xx answer, may or may not have happened. The checker
recognises it by its body, so each body must be unique. All other facts are certain:

- an accepted write is applied, superseded by a stronger write, or rejected for a fault of its own;
  the strongest write of a key remains (`strength`);
- a read returns a write to its key that began before the read ended and was not refused; a write
  that was read is not lost;
- a read with `Read-After` returns that command or a stronger one; a client that always sends the
  version that it last saw never sees an older state;
- a final status does not change; the status `superseded` names the stronger command;
- a write that sends a version which its client has seen gets a greater id; ids are unique; a
  repeated `Idempotency-Key` refers to the same command;
- of the writes that are conditional on one version, at most one is applied; a write that is
  conditional on a version that was read before is rejected only if another write could replace it.

Keys with patches have other rules; see `edits.py`.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.history.edits import check_edits
from tests.history.operations import Body, Final, Operation, Place
from tests.history.violations import Violation, check_ids, find_turns


def strength(command_id: str) -> tuple[int, int]:
    """A sort key for the commands of a key: the greatest wins.

    Puts and deletes beat creates. Of puts and deletes the greatest id wins, of creates the
    smallest. The lowest bit of an id marks a create.
    """
    number = int(command_id.replace("-", ""), 16)
    return (0, -number) if number & 1 else (1, number)


def check(history: Sequence[Operation], final: Final) -> list[Violation]:
    """Return every broken promise of a run.

    Args:
        history: all operations that may have had an effect, in any order.
        final: the state after everything accepted was applied.
    """
    edited = final.edits.keys
    plain = [operation for operation in history if operation.place not in edited]
    edits = [operation for operation in history if operation.place in edited]
    return [
        *check_ids(history),
        *_Check(plain, final).violations(),
        *check_edits(edits, final),
    ]


class _Check:
    def __init__(self, history: Sequence[Operation], final: Final) -> None:
        self._history = sorted(history, key=lambda operation: operation.began)
        self._final = final
        self._by_id: dict[str, Operation] = {}
        self._at: defaultdict[Place, list[Operation]] = defaultdict(list)
        self._open: defaultdict[str, list[Operation]] = defaultdict(list)
        self._refused: defaultdict[str, list[Operation]] = defaultdict(list)
        #: Versions that reads attribute to open writes.
        self._versions: dict[int, str] = {}
        for operation in self._history:
            if operation.is_acknowledged and operation.command_id is not None:
                self._by_id.setdefault(operation.command_id, operation)
            if operation.is_write and operation.place and not operation.is_refused:
                self._at[operation.place].append(operation)
            if operation.is_open:
                self._open[operation.resource].append(operation)
            if operation.is_refused:
                self._refused[operation.resource].append(operation)

    def violations(self) -> Iterator[Violation]:
        yield from self._idempotency()
        for operation in self._history:
            if operation.found:
                yield from self._value(operation)
            if operation.is_acknowledged:
                yield from self._end(operation)
        yield from self._chains()
        yield from self._statuses()
        yield from self._conditions()
        yield from self._remains()

    # Writes

    def _idempotency(self) -> Iterator[Violation]:
        firsts: dict[tuple[str, str], Operation] = {}
        for operation in self._history:
            if operation.idempotency_key is None or operation.key is None:
                continue
            name = operation.resource, operation.idempotency_key
            first = firsts.setdefault(name, operation)
            if first.key != operation.key:
                yield Violation("repetition made another item", f"beside {first.key}", operation)
            elif first.command_id != operation.command_id:
                detail = f"beside {first.command_id}"
                yield Violation("repetition made another command", detail, operation)

    def _end(self, operation: Operation) -> Iterator[Violation]:
        """Check the final state of the key of an accepted write."""
        command_id, place = str(operation.command_id), operation.place
        assert place is not None, operation
        if command_id in self._final.rejected:
            if not (operation.faulty or operation.is_conditional):
                yield Violation("rejected without a fault", command_id, operation)
            return
        version = self._final.version(place)
        if version is None:
            yield Violation("accepted write lost", "the key has neither row nor trace", operation)
        elif strength(version) < strength(command_id):
            yield Violation("accepted write lost", f"the key is at {version}", operation)
        # `_remains` checks that a stronger version comes from a write.

    def _remains(self) -> Iterator[Violation]:
        """Check that every final row and tombstone comes from a write."""
        for place, row in self._final.rows.items():
            fault = self._fault_of(place, row.version, row.body, until=self._final.at)
            if fault:
                yield Violation(fault, f"{place} at the end: {row}")
        for place, version in self._final.tombstones.items():
            if place not in self._final.rows and not self._may_delete(place, version):
                yield Violation("value never written", f"{place} was deleted by {version}")

    # Conditions

    def _conditions(self) -> Iterator[Violation]:
        passed: dict[tuple[Place, str], Operation] = {}
        #: By place and version, when the first read ended that returned it.
        shown: dict[tuple[Place | None, str | None], float] = {}
        for read in self._history:
            if read.found:
                seen = (read.place, read.version)
                shown[seen] = min(read.ended, shown.get(seen, read.ended))
        for write in self._history:
            place, version = write.place, write.if_match
            if not write.is_acknowledged or write.faulty or place is None or version is None:
                continue
            if write.command_id not in self._final.rejected:
                other = passed.setdefault((place, version), write)
                if other is not write:
                    yield Violation("two writes passed one condition", str(other), write)
            elif shown.get((place, version), math.inf) < write.began and not self._could_replace(
                version, write
            ):
                yield Violation("rejected without a fault", f"{version} was there", write)

    def _could_replace(self, version: str, rejected: Operation) -> bool:
        """Return whether a write other than the rejected could have replaced the version."""
        return any(
            write.command_id is None
            or (
                write.command_id not in self._final.rejected
                and strength(write.command_id) > strength(version)
            )
            for write in self._at[rejected.place or ("", "")]
            if write is not rejected and not write.faulty
        )

    # Reads

    def _value(self, read: Operation) -> Iterator[Violation]:
        assert read.place is not None, read
        fault = self._fault_of(read.place, read.version, read.got, until=read.ended)
        if fault:
            yield Violation(fault, f"version {read.version}", read)
        if read.version is not None:
            last = self._final.version(read.place)
            if last is None or strength(last) < strength(read.version):
                yield Violation("seen write lost", f"the key is at {last} in the end", read)

    def _fault_of(
        self, place: Place, version: str | None, body: Body | None, *, until: float
    ) -> str | None:
        """The reason why the item can't have had this state by the time `until`, or None."""
        known = self._by_id.get(version) if version else None
        if known is not None:
            return self._fault_of_known(known, place, body, until)
        if body is None:  # 304: only the version is known, and any open write may have made it
            return None if self._open_at(place, until) else "value never written"
        if version is None and any(
            _made(write, body) and write.began <= until
            for write in self._at[place]
            if not (write.faulty or write.command_id in self._final.rejected)
        ):
            return None
        for write in self._open_at(place, until):
            if not write.faulty and _made(write, body):
                same = version is None or self._versions.setdefault(id(write), version) == version
                return None if same else "one write, two versions"
        if any(_made(write, body) for write in self._refused[place[0]]):
            return "refused write seen"
        return "value never written"

    def _fault_of_known(
        self, write: Operation, place: Place, body: Body | None, until: float
    ) -> str | None:
        if write.place != place:
            return "value of another key"
        if write.faulty:
            return "faulty write applied"
        if write.command_id in self._final.rejected:
            return "rejected write applied"
        if write.began > until:
            return "value from the future"
        if write.kind == "delete" or (body is not None and not _made(write, body)):
            return "value never written"
        return None

    def _open_at(self, place: Place, until: float) -> list[Operation]:
        return [
            write
            for write in self._open[place[0]]
            if write.place in (None, place) and write.began <= until
        ]

    def _may_delete(self, place: Place, version: str, until: float = float("inf")) -> bool:
        known = self._by_id.get(version)
        if known is not None:
            return known.kind == "delete" and known.place == place and not known.faulty
        return any(write.kind == "delete" for write in self._open_at(place, until))

    # Read-After

    def _chains(self) -> Iterator[Violation]:
        seen: dict[tuple[str, Place], str] = {}
        for read in self._history:
            if read.read_after is None or not (read.found or read.found_nothing):
                continue
            assert read.place is not None, read
            who = (read.client, read.place)
            last = seen.get(who)
            floor = None if read.read_after in self._final.rejected else read.read_after
            chained = last is not None and strength(read.read_after) >= strength(last)
            # A failed condition is settled in any state of its key, also in an older one.
            after = self._by_id.get(read.read_after)
            chained = chained and not (floor is None and after and after.is_conditional)
            if floor and not self._reaches(read, floor):
                yield Violation("older than asked", f"got {read.version}", read)
            elif last and chained and not self._reaches(read, last):
                yield Violation("went back", f"{last} was seen, then {read.version}", read)
            if read.version is not None:
                seen[who] = read.version

    def _reaches(self, read: Operation, floor: str) -> bool:
        """Return whether the read's result is possible after `floor` was settled."""
        assert read.place is not None
        if read.found:
            return read.version is not None and strength(read.version) >= strength(floor)
        deletes = [
            write
            for write in self._at[read.place]
            if write.kind == "delete" and write.began <= read.ended
        ]
        return any(
            write.command_id is None or strength(write.command_id) >= strength(floor)
            for write in deletes
            if write.command_id not in self._final.rejected
        )

    # Statuses

    def _statuses(self) -> Iterator[Violation]:
        statuses: defaultdict[str, list[Operation]] = defaultdict(list)
        for operation in self._history:
            if operation.kind == "status" and operation.fate is not None:
                statuses[str(operation.command_id)].append(operation)
                yield from self._status(operation)
        for answers in statuses.values():
            yield from find_turns(answers)

    def _status(self, told: Operation) -> Iterator[Violation]:
        write = self._by_id.get(str(told.command_id))
        if write is None:
            return
        is_rejected = write.command_id in self._final.rejected
        if told.fate == "rejected" and not (write.faulty or is_rejected):
            yield Violation("rejected without a fault", "as its status tells", told)
        if told.fate in {"applied", "superseded"} and is_rejected and not write.faulty:
            yield Violation("rejected write applied", "as its status tells", told)
        if told.fate == "applied" and write.faulty:
            yield Violation("faulty write applied", "as its status tells", told)
        if told.fate == "pending" and told.began > self._final.at:
            yield Violation("accepted write lost", "it is pending for ever", told)
        if told.fate == "superseded":
            yield from self._superseded(told, write)

    def _superseded(self, told: Operation, write: Operation) -> Iterator[Violation]:
        by = told.superseded_by
        if by is None or strength(by) <= strength(str(told.command_id)):
            yield Violation("superseded by what is weaker", str(by), told)
            return
        assert write.place is not None
        winner = self._by_id.get(by)
        known = winner is not None and winner.place == write.place and winner.began <= told.ended
        if not known and (winner or not self._open_at(write.place, told.ended)):
            yield Violation("superseded by nobody's write", by, told)


def _made(write: Operation, body: Body) -> bool:
    """Return whether the body is what the write sent; members that were not sent may be added."""
    if write.sent is None:
        return False
    return all(name in body and body[name] == value for name, value in write.sent.items())
