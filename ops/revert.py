"""Undo commands: find the states of their keys before them, and make commands that restore these.

The states follow from the archive by law 2, and from the decisions about decided commands. A state
with patches is restored by one put of the whole item. No command is removed: the undone commands
stay in the archive and the history, and the new commands win because their ids are greater.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeGuard

import orjson

from forebay.apply.edits.state import KeyState
from forebay.apply.prepare import upcast
from forebay.archive.layout import StoredObject
from forebay.archive.lines import InvalidLine, read_chunks
from forebay.aws.archive import Archive
from forebay.codec import encode
from forebay.command import Body, Command, KeyValue, Target
from forebay.decided_commands import is_decided_command
from forebay.decisions.effects import Effect
from forebay.errors import BodyError
from forebay.ids import IdSource
from forebay.replay.selection import Selection
from forebay.resource.body import BodyInvalidError
from forebay.resource.spec import ResourceSpec
from ops.archive.invalid import OF_OBJECTS, LineFault
from ops.archive.store import ObjectStore

#: `put` and `delete` restore the state; `unchanged` keys have it; an `impossible` state does not
#: fit the current declaration.
Verdict = Literal["put", "delete", "unchanged", "impossible"]

_OBJECT_COMMANDS: Final = 5_000
_OBJECT_BYTES: Final = 16 * 1024 * 1024  # of lines


class Decisions(Protocol):
    """The decisions about commands, from the database."""

    def find_rejected(self, ids: Sequence[str]) -> Collection[str]:
        """Return those of some ids that were rejected: their commands never took effect."""
        ...

    def find_effects(self, ids: Sequence[str]) -> Mapping[str, Effect]:
        """Return the effects of those decided commands that have passed, by id."""
        ...


@dataclass(slots=True)
class _State:
    """A state of a key, from the commands that were added."""

    base: Command | None = None
    #: The patches; without a base, all of them wait.
    patches: KeyState = field(default_factory=KeyState)

    def add(self, command: Command) -> None:
        """Add a plain command; a patch is of the current schema version."""
        if command.op == "patch":
            self.patches.absorb(command)
        elif self.base is None or command.beats(self.base):
            self.base = command

    def resolve(self, spec: ResourceSpec) -> KeyState:
        """Return the state.

        Raises:
            BodyError: the base can't be upcast.
        """
        base = None if self.base is None else upcast(self.base, spec)
        return KeyState.of_commands(base, self.patches.kept.values())

    def list_commands(self) -> dict[str, Command]:
        """Return the commands of which the state may have something, by the ids of their places."""
        base = {} if self.base is None else {self.base.id: self.base}
        return base | self.patches.kept


@dataclass(slots=True)
class _Key:
    """A key of the undone commands."""

    #: The ids of the undone commands, and of their places; the smallest of the places.
    ids: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    first_id: str = ""
    present: _State = field(default_factory=_State)
    restored: _State = field(default_factory=_State)


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to a key."""

    resource: str
    key: KeyValue
    verdict: Verdict
    #: The caller of the present state, if another command has changed the item later: the restored
    #: state lacks this change.
    loses_change_of: str | None = None
    reason: str | None = None
    body: Body | None = None
    #: The id of the command that made the present state; the new command's id exceeds it.
    after: str | None = None


class Planner:
    """Reads the archive and plans the steps; has the keys of the undone commands in memory."""

    def __init__(
        self,
        store: ObjectStore,
        resources: Mapping[str, ResourceSpec],
        selection: Selection,
        *,
        keep_later: bool,
    ) -> None:
        """Create a planner.

        Args:
            store: the archive.
            resources: the declarations.
            selection: the commands to undo.
            keep_later: restore the state as if the undone commands had never been sent, with the
                later changes of other callers; otherwise the state before the first of them.
        """
        self._store = store
        self._resources = resources
        self.selection = selection
        self._keep_later = keep_later
        self._keys: dict[Target, _Key] = {}
        #: The ids of undone commands that have no decision yet.
        self.undecided: set[str] = set()
        #: Objects with a rest that can't be read.
        self.damaged: list[LineFault] = []

    @property
    def ids(self) -> set[str]:
        """The ids of the undone commands."""
        return {command_id for key in self._keys.values() for command_id in key.ids}

    def find(
        self,
        objects: Iterable[StoredObject],
        decisions: Decisions,
        on_object: Callable[[StoredObject], None],
    ) -> None:
        """Find the commands to undo in these objects.

        Raises:
            TransientError: the archive did not answer.
        """
        for archive_object in objects:
            chunks = read_chunks(self._store.read(archive_object.key))
            for chunk in self.selection.chunks(chunks):
                commands = [entry for entry in chunk if not isinstance(entry, InvalidLine)]
                effects = _find_effects(commands, decisions)
                for command in commands:
                    effect = effects.get(command.id)
                    place = command.id if effect is None else effect.effective_id
                    key = self._keys.setdefault((command.resource, command.key), _Key())
                    key.ids.add(command.id)
                    key.places.add(place)
                    key.first_id = min(key.first_id or place, place)
            on_object(archive_object)

    def fold(
        self,
        objects: Iterable[StoredObject],
        decisions: Decisions,
        on_object: Callable[[StoredObject], None],
    ) -> None:
        """Find the present state of each key, and the state to restore.

        Args:
            objects: all objects of the archive.
            decisions: the decisions about commands.
            on_object: called with each object after it was read.

        Raises:
            TransientError: the archive did not answer.
        """
        for archive_object in objects:
            for chunk in read_chunks(self._store.read(archive_object.key)):
                commands = [command for command in chunk if self._concerns(command, archive_object)]
                rejected_ids = decisions.find_rejected([c.id for c in commands]) if commands else ()
                effects = _find_effects(commands, decisions)
                for command in commands:
                    if command.id not in rejected_ids:
                        self._add(command, effects.get(command.id))
            on_object(archive_object)

    def plan(self) -> Iterator[Step]:
        """Yield the step of each key, by resource and key."""
        for (path, key), states in sorted(self._keys.items(), key=lambda item: str(item[0])):
            yield self._plan_key(path, key, states)

    def _concerns(
        self, entry: Command | InvalidLine, archive_object: StoredObject
    ) -> TypeGuard[Command]:
        """Return whether an entry is a command of a key that is restored."""
        if not isinstance(entry, InvalidLine):
            return (entry.resource, entry.key) in self._keys
        if entry.code.startswith(OF_OBJECTS):
            self.damaged.append(LineFault.of(archive_object.key, entry))
        return False

    def _add(self, archived: Command, effect: Effect | None) -> None:
        """Add a command that is not rejected to the states of its key."""
        key = self._keys[archived.resource, archived.key]
        command = archived if effect is None else effect.apply_to(archived)
        spec = self._resources.get(command.resource)
        if spec is not None:
            try:
                current = upcast(command, spec)
            except BodyError:
                current = command
            if is_decided_command(current.op, current.body, current.condition, spec):
                self.undecided |= {archived.id} & key.ids
                return
            if command.op == "patch":
                if current.schema != spec.schema_version:
                    return  # it can't apply
                command = current
        key.present.add(command)
        is_earlier = self._keep_later or command.id < key.first_id
        if archived.id not in key.ids and is_earlier:
            key.restored.add(command)

    def _plan_key(self, path: str, key: KeyValue, states: _Key) -> Step:
        spec = self._resources.get(path)
        if spec is None:
            return Step(path, key, "impossible", reason="this release does not declare it")
        present = states.present.list_commands()
        after = max(present, default=max(states.places))
        changed_by = _find_later_caller(states, present)
        try:
            restored = states.restored.resolve(spec)
            body = _read_body(restored, spec)
        except (BodyError, BodyInvalidError) as exc:
            return Step(path, key, "impossible", changed_by, str(exc))
        if _is_state(states.present, body, spec):
            return Step(path, key, "unchanged")
        verdict: Verdict = "delete" if body is None else "put"
        waiting = restored.list_waiting()
        reason = f"ends the wait of {len(waiting):,} patches" if waiting else None
        return Step(path, key, verdict, changed_by, reason, body, after)


def _find_effects(commands: Sequence[Command], decisions: Decisions) -> Mapping[str, Effect]:
    ids = [c.id for c in commands if c.op == "patch" or c.condition is not None]
    return decisions.find_effects(ids) if ids else {}


def _find_later_caller(states: _Key, present: Mapping[str, Command]) -> str | None:
    """Return the caller of the newest later change that the restored state lacks."""
    restored = states.restored.list_commands()
    lost = [
        place
        for place in present
        if place not in states.places and place not in restored and place > states.first_id
    ]
    return present[max(lost)].by if lost else None


def send(
    archive: Archive,
    steps: Iterable[Step],
    resources: Mapping[str, ResourceSpec],
    ids: IdSource,
    by: str,
) -> Iterator[int]:
    """Send the commands of the steps to the archive; its S3 events apply them.

    Args:
        archive: the archive's bucket.
        steps: of any verdict; only puts and deletes have commands.
        resources: the declarations.
        ids: makes the commands' ids.
        by: the caller of the commands.

    Yields:
        The number of commands in each object, after it was stored.

    Raises:
        TransientError: an object was possibly not stored. The earlier objects are; a second call
            finds their keys unchanged.
    """
    commands = (
        _build_command(step, resources[step.resource], ids, by)
        for step in steps
        if step.verdict in {"put", "delete"}
    )
    lines: list[bytes] = []
    first_id, size = "", 0
    for command in commands:
        line = encode(command)
        if lines and (len(lines) == _OBJECT_COMMANDS or size + len(line) > _OBJECT_BYTES):
            archive.write_commands(lines, first_id)
            yield len(lines)
            lines, size = [], 0
        if not lines:
            first_id = command.id
        lines.append(line)
        size += len(line)
    if lines:
        archive.write_commands(lines, first_id)
        yield len(lines)


def _build_command(step: Step, spec: ResourceSpec, ids: IdSource, by: str) -> Command:
    return Command(
        id=ids.make(create=False, after=step.after),
        op="delete" if step.body is None else "put",
        resource=step.resource,
        key=step.key,
        schema=spec.schema_version,
        by=by,
        trace=None,
        body=step.body,
    )


def _read_body(state: KeyState, spec: ResourceSpec) -> Body | None:
    """The body of a state in the current schema version; None if there is no item.

    Raises:
        BodyInvalidError: the body does not fit the current declaration.
    """
    if not state.has_item:
        return None
    spec.body.validate(orjson.dumps(state.values))
    return state.values


def _is_state(present: _State, body: Body | None, spec: ResourceSpec) -> bool:
    """Return whether the present commands have made this state."""
    try:
        state = present.resolve(spec)
    except BodyError:
        return False
    return (state.values if state.has_item else None) == body


def count(steps: Sequence[Step]) -> dict[str, int]:
    """The number of steps by verdict, and those that lose a later change."""
    counts = dict.fromkeys(("put", "delete", "unchanged", "impossible"), 0)
    for step in steps:
        counts[step.verdict] += 1
    lost = sum(step.loses_change_of is not None for step in steps if step.verdict != "impossible")
    return {**counts, "losing_later_changes": lost}
