"""Generate histories that keep every promise: a small model of the API, with a lagging replica.

Random choices determine the operations, which of them are answered, when the model applies writes,
and the lag of the replica. The model computes the laws by itself, from sets of writes and `max`.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from forebay.ids import join_id
from tests.history.checker import strength
from tests.history.operations import Final, Operation, Place, Row

_KEYS = ("1", "2")
_CLIENTS = ("anna", "bert", "carl")
_START_MS = 1_800_000_000_000
_AFTER_ALL = 10.0


@dataclass
class Model:
    """A model of the API and its databases."""

    chance: random.Random
    now: float = 0.0
    history: list[Operation] = field(default_factory=list)
    #: Stored writes by place; each has an id, even if no answer contained it.
    stored: defaultdict[Place, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    #: The ids of stored writes that the primary and the replica have processed.
    primary: set[str] = field(default_factory=set)
    #: The ids of writes with a condition that did not hold when the primary processed them.
    failed: set[str] = field(default_factory=set)
    replica: set[str] = field(default_factory=set)
    free: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_CLIENTS, 0.0))
    last: dict[tuple[str, Place], str] = field(default_factory=dict)

    def step(self) -> None:
        self.now += 1
        ready = [client for client in _CLIENTS if self.free[client] < self.now]
        actions: list[Callable[..., None]] = [self.apply]
        if ready:
            actions += [self.write, self.write, self.read, self.read, self.ask]
        action = self.chance.choice(actions)
        if action == self.apply:
            self.apply()
        else:
            place = ("cities", self.chance.choice(_KEYS))
            action(self.chance.choice(ready), place)

    def apply(self) -> None:
        """Process some of the stored writes on the primary; sometimes update the replica."""
        self._process({one for one in self._ids() if self.chance.random() < 0.5})
        if self.chance.random() < 0.5:
            self.replica = set(self.primary)

    def _ids(self) -> list[str]:
        return sorted(str(one.command_id) for some in self.stored.values() for one in some)

    def _process(self, ids: set[str]) -> None:
        """Process these writes in the order of their ids; decide each conditional write once."""
        every = {one.command_id: one for some in self.stored.values() for one in some}
        for command_id in sorted(ids - self.primary):
            write = every[command_id]
            assert write.place is not None
            won = self._winner(write.place, self.primary)
            if write.is_conditional and not (won and won.sent and won.command_id == write.if_match):
                self.failed.add(command_id)
            self.primary.add(command_id)

    def write(self, client: str, place: Place) -> None:
        kind = self.chance.choice(["put", "put", "delete", "create"])
        outcome = self.chance.choice(["yes", "yes", "yes", "no", "open", "nothing"])
        command_id = join_id(_START_MS + int(self.now), kind == "create")
        operation = self._operation(
            client, place,
            kind=kind,
            sent=None if kind == "delete" else {"name": f"written at {self.now}"},
            status={"yes": 202, "no": 422}.get(outcome, 503),
            command_id=command_id,
            faulty=self.chance.random() < 0.1,
            if_match=None
            if kind == "create" or self.chance.random() < 0.5
            else self.last.get((client, place)),
        )  # fmt: skip
        if outcome in ("yes", "open"):
            self.stored[place].append(operation)
        self.history.append(operation if outcome == "yes" else replace(operation, command_id=None))

    def read(self, client: str, place: Place) -> None:
        after = None
        if self.chance.random() < 0.5:
            last = self.last.get((client, place))
            candidates = [*([last] if last else []), *self._acknowledged(place)]
            after = self.chance.choice(candidates) if candidates else None
        seen = self.replica
        if after is not None and self._fate(after, place, seen) == "pending":
            seen = self.primary
            if self._fate(after, place, seen) == "pending":
                self.history.append(self._operation(client, place, read_after=after, status=503))
                return
        row = self._winner(place, seen)
        there = row is not None and row.kind != "delete"
        self.history.append(
            self._operation(
                client,
                place,
                read_after=after,
                status=200 if there else 404,
                version=row.command_id if row and there else None,
                got=row.sent if row and there else None,
            )
        )
        if after is not None and row is not None and there:
            self.last[client, place] = str(row.command_id)

    def ask(self, client: str, place: Place) -> None:
        ids = self._acknowledged(place)
        if ids:
            self._tell(client, place, self.chance.choice(ids), self.replica)

    def end(self) -> Final:
        """Apply everything on both servers, then request every status; return the final state."""
        self._process(set(self._ids()))
        self.now = max(self.now, *self.free.values()) + _AFTER_ALL
        final = Final(
            rows={
                place: Row(str(won.command_id), won.sent)
                for place, won in self._winners()
                if won.sent is not None
            },
            tombstones={
                place: str(won.command_id) for place, won in self._winners() if won.sent is None
            },
            rejected=self._rejected(),
            at=self.now,
        )
        for place in list(self.stored):
            for command_id in self._acknowledged(place):
                self.now += _AFTER_ALL
                self._tell(_CLIENTS[0], place, command_id, self.primary)
        return final

    def _tell(self, client: str, place: Place, command_id: str, seen: set[str]) -> None:
        fate = self._fate(command_id, place, seen)
        won = self._winner(place, seen)
        by = str(won.command_id) if won and fate == "superseded" else None
        self.history.append(
            self._operation(
                client, place, kind="status", command_id=command_id, fate=fate, superseded_by=by
            )
        )

    def _operation(self, client: str, place: Place, **said: Any) -> Operation:
        """An operation that takes effect now; it may begin earlier and end later."""
        began = self.chance.uniform(self.free[client] + 1e-6, self.now)
        self.free[client] = ended = self.now + self.chance.choice([0.1, 0.9, 2.5])
        usual = {"kind": "read", "status": 200}
        return Operation(
            client=client, resource=place[0], key=place[1], began=began, ended=ended,
            **{**usual, **said},
        )  # fmt: skip

    def _acknowledged(self, place: Place) -> list[str]:
        return [
            str(one.command_id)
            for one in self.history
            if one.is_acknowledged and one.place == place
        ]

    def _winners(self) -> list[tuple[Place, Operation]]:
        winners = [(place, self._winner(place, self.primary)) for place in self.stored]
        return [(place, won) for place, won in winners if won is not None]

    def _winner(self, place: Place, seen: set[str]) -> Operation | None:
        some = [
            one
            for one in self.stored[place]
            if one.command_id in seen and not (one.faulty or one.command_id in self.failed)
        ]
        return max(some, key=lambda one: strength(str(one.command_id)), default=None)

    def _fate(self, command_id: str, place: Place, seen: set[str]) -> str:
        (command,) = [one for one in self.stored[place] if one.command_id == command_id]
        if command.faulty or command_id in self.failed:
            return "rejected" if command_id in seen else "pending"
        if command.is_conditional and command_id not in seen:
            return "pending"
        won = self._winner(place, seen)
        if won is None or strength(str(won.command_id)) < strength(command_id):
            return "pending"
        return "applied" if won.command_id == command_id else "superseded"

    def _rejected(self) -> frozenset[str]:
        every = [one for some in self.stored.values() for one in some]
        return frozenset(self.failed) | {str(one.command_id) for one in every if one.faulty}


def legal_histories(*, least: int = 1) -> st.SearchStrategy[tuple[list[Operation], Final]]:
    """Generate histories that keep every promise, each with its final state.

    Args:
        least: the minimum number of steps.
    """
    return st.builds(_play, st.integers(0, 2**32), st.integers(least, 40))


def _play(seed: int, steps: int) -> tuple[list[Operation], Final]:
    model = Model(random.Random(seed))
    for _ in range(steps):
        model.step()
    final = model.end()
    return model.history, final
