"""Undo commands: find the states of their keys before them, and make commands that restore these.

The states follow from the archive by law 2. Nothing is removed: the undone commands stay in the
archive and the history, and the new commands win because their ids are greater.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeGuard

import orjson

from forebay.apply.prepare import upcast
from forebay.archive.layout import StoredObject
from forebay.archive.lines import InvalidLine, read_chunks
from forebay.aws.archive import Archive
from forebay.codec import encode
from forebay.command import Body, Command, KeyValue
from forebay.errors import BodyError
from forebay.ids import IdSource
from forebay.replay.selection import Selection
from forebay.resource.body import BodyInvalidError
from forebay.resource.spec import ResourceSpec
from ops.archive.invalid import OF_OBJECTS, LineFault
from ops.archive.store import ObjectStore

#: A resource's path and a key.
Target = tuple[str, KeyValue]
#: `put` and `delete` restore the state; `unchanged` keys have it; an `impossible` state does not
#: fit the current declaration.
Verdict = Literal["put", "delete", "unchanged", "impossible"]

_OBJECT_COMMANDS: Final = 5_000
_OBJECT_BYTES: Final = 16 * 1024 * 1024  # of lines


@dataclass(slots=True)
class _Key:
    """A key of the undone commands."""

    #: The ids of the undone commands, and the smallest of them.
    ids: set[str] = field(default_factory=set)
    first_id: str = ""
    #: The command of the present state, and of the state to restore; None if there is no item.
    present: Command | None = None
    restored: Command | None = None


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
        #: Objects whose rest can't be read.
        self.damaged: list[LineFault] = []

    @property
    def ids(self) -> set[str]:
        """The ids of the undone commands."""
        return {command_id for key in self._keys.values() for command_id in key.ids}

    def find(
        self, objects: Iterable[StoredObject], on_object: Callable[[StoredObject], None]
    ) -> None:
        """Find the commands to undo in these objects.

        Raises:
            TransientError: the archive did not answer.
        """
        for archive_object in objects:
            chunks = read_chunks(self._store.read(archive_object.key))
            for chunk in self.selection.chunks(chunks):
                for command in chunk:
                    if not isinstance(command, InvalidLine):
                        key = self._keys.setdefault((command.resource, command.key), _Key())
                        key.ids.add(command.id)
                        key.first_id = min(key.first_id or command.id, command.id)
            on_object(archive_object)

    def fold(
        self,
        objects: Iterable[StoredObject],
        find_rejected: Callable[[Sequence[str]], Collection[str]],
        on_object: Callable[[StoredObject], None],
    ) -> None:
        """Find the present state of each key, and the state to restore.

        Args:
            objects: all objects of the archive.
            find_rejected: returns those of some ids that were rejected, so that their commands
                never took effect.
            on_object: called with each object after it was read.

        Raises:
            TransientError: the archive did not answer.
        """
        for archive_object in objects:
            for chunk in read_chunks(self._store.read(archive_object.key)):
                commands = [command for command in chunk if self._concerns(command, archive_object)]
                rejected_ids = find_rejected([c.id for c in commands]) if commands else ()
                for command in commands:
                    if command.id not in rejected_ids:
                        self._add(self._keys[command.resource, command.key], command)
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

    def _add(self, key: _Key, command: Command) -> None:
        if key.present is None or command.beats(key.present):
            key.present = command
        is_kept = command.id not in key.ids and (self._keep_later or command.id < key.first_id)
        if is_kept and (key.restored is None or command.beats(key.restored)):
            key.restored = command

    def _plan_key(self, path: str, key: KeyValue, states: _Key) -> Step:
        spec = self._resources.get(path)
        if spec is None:
            return Step(path, key, "impossible", reason="this release does not declare it")
        present, restored = states.present, states.restored
        after = present.id if present is not None else max(states.ids)
        changed_by = None
        if present is not None and present.id not in states.ids and present.id > states.first_id:
            changed_by = present.by
        try:
            body = _read_body(restored, spec)
        except (BodyError, BodyInvalidError) as exc:
            return Step(path, key, "impossible", changed_by, str(exc))
        if _is_state(present, body, spec):
            return Step(path, key, "unchanged")
        verdict: Verdict = "delete" if body is None else "put"
        return Step(path, key, verdict, changed_by, None, body, after)


def send(
    archive: Archive,
    steps: Iterable[Step],
    resources: Mapping[str, ResourceSpec],
    ids: IdSource,
    by: str,
) -> Iterator[int]:
    """Send the commands of the steps to the archive, whose S3 events apply them.

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


def _read_body(command: Command | None, spec: ResourceSpec) -> Body | None:
    """The body of a state in the current schema version; None if there is no item.

    Raises:
        BodyError, BodyInvalidError: the body does not fit the current declaration.
    """
    if command is None or command.body is None:
        return None
    body = upcast(command, spec).body
    spec.body.validate(orjson.dumps(body))
    return body


def _is_state(present: Command | None, body: Body | None, spec: ResourceSpec) -> bool:
    """Return whether the present command has made this state."""
    if present is None or present.body is None:
        return body is None
    try:
        return upcast(present, spec).body == body
    except BodyError:
        return False


def count(steps: Sequence[Step]) -> dict[str, int]:
    """The number of steps by verdict, and those that lose a later change."""
    counts = dict.fromkeys(("put", "delete", "unchanged", "impossible"), 0)
    for step in steps:
        counts[step.verdict] += 1
    lost = sum(step.loses_change_of is not None for step in steps if step.verdict != "impossible")
    return {**counts, "losing_later_changes": lost}
