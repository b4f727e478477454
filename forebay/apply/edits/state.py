"""The state of an edited key, and its change by a command. Needs no database.

A key's state is a function of its commands, whatever their order (law 2). Its *base* is the put or
delete with the greatest id, or else the create with the smallest. The item has the base's fields,
and over each field the value of the patch with the greatest id that sets it and is newer than the
base. Patches without effect are *kept* if they may have one later: those newer than the base if
there is no item (they *wait*), and those older than a create, because an older create may still
arrive and become the base.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Self

from forebay.command import Body, Command
from forebay.conditional import make_state_tag

#: How many ids of patches without any effect left a key remembers, the greatest of them: their
#: statuses, and whether they are repetitions, can't be seen otherwise.
RECENT_IDS = 16

#: The kind of lines as which an absorbed command is counted.
CountedAs = Literal["applied", "superseded", "duplicate"]


class Base(NamedTuple):
    """The command that the row or the tombstone is from."""

    id: str
    is_create: bool = False
    is_delete: bool = False
    #: The row is to be written again by its own command, see `forebay.ids.mark_outdated`.
    is_outdated: bool = False

    def loses_to(self, command: Command) -> bool:
        """Return whether a put, create or delete replaces the base (law 2)."""
        if (command.op == "create") != self.is_create:
            return self.is_create
        return command.id < self.id if self.is_create else command.id > self.id


@dataclass(slots=True)
class KeyState:
    """The state of a key: its base, its patches, and the item's values as far as they are known."""

    base: Base | None = None
    #: By field, the id of the patch that set the item's value.
    fields: dict[str, str] = field(default_factory=dict)
    #: Patches without effect by id, each with the fields that it may still set.
    kept: dict[str, Command] = field(default_factory=dict)
    #: Ascending.
    recent: list[str] = field(default_factory=list)
    #: The item's fields as JSON values. Must be complete before a put, create or delete changes an
    #: item with patches; otherwise it may hold the fields only that patches have set since.
    values: Body = field(default_factory=dict)
    #: The put, create or delete that has replaced the base.
    new_base: Command | None = None
    #: Names of the fields that patches have changed since, if the base was not replaced.
    changed: set[str] = field(default_factory=set)
    #: Whether `forebay.edits` has a row of the key.
    is_recorded: bool = False

    @classmethod
    def of_commands(cls, base: Command | None, patches: Iterable[Command]) -> Self:
        """The state that plain commands lead to.

        Args:
            base: the winner among the puts, creates and deletes, with a complete body.
            patches: all patches of the key.
        """
        state = cls()
        if base is not None:
            state.absorb(base)
        for patch in sorted(patches, key=lambda command: command.id):
            state.absorb(patch)
        return state

    def copied(self) -> Self:
        """A copy that can be changed independently."""
        return replace(
            self,
            fields=dict(self.fields),
            kept=dict(self.kept),
            values=dict(self.values),
            changed=set(self.changed),
        )

    @property
    def has_item(self) -> bool:
        """True if there is an item."""
        return self.base is not None and not self.base.is_delete

    @property
    def greatest_id(self) -> str:
        """The greatest id that the item has; empty without an item."""
        if self.base is None or self.base.is_delete:
            return ""
        return max(self.base.id, *self.fields.values()) if self.fields else self.base.id

    @property
    def state_tag(self) -> str | None:
        """The item's state tag; None without an item."""
        if self.base is None or self.base.is_delete:
            return None
        return make_state_tag(self.base.id, self.fields)

    @property
    def is_plain(self) -> bool:
        """True if the row or the tombstone describes the key completely."""
        return not self.fields and not self.kept

    def list_waiting(self) -> list[str]:
        """Ids of the kept patches that take effect as soon as there is an item, ascending."""
        return [] if self.has_item else sorted(self.kept)

    def has_taken(self, command_id: str) -> bool:
        """Return whether a put, create, delete or patch has an effect, or waits for one."""
        return (
            (self.base is not None and self.base.id == command_id)
            or command_id in self.fields.values()
            or command_id in self.kept
        )

    def absorb(self, command: Command) -> CountedAs:
        """Change the state by a plain command; its body is of the current schema version.

        Returns:
            How the command is counted; "applied" also if it waits.
        """
        if command.op == "patch":
            return self._absorb_patch(command)
        base = self.base
        if base is not None:
            if command.id == base.id and not base.is_outdated:
                return "duplicate"
            if command.id != base.id and not base.loses_to(command):
                return "superseded"
        self._rebase(command)
        return "applied"

    @property
    def is_unpatched_item(self) -> bool:
        """True if there is an item, and no trace of a patch."""
        if self.is_recorded or self.fields or self.kept:
            return False
        return self.base is not None and not self.base.is_delete

    def absorb_first_patch(self, patch: Command) -> bool:
        """Absorb the first patch of an unpatched item, as `absorb` does.

        The common case; most checks of `absorb` can't apply.

        Returns:
            False if it is no patch, or is older than the item; the state is unchanged.
        """
        base = self.base
        if patch.op != "patch" or base is None or patch.id <= base.id:
            return False
        body = patch.body or {}
        self.fields, self.values = dict.fromkeys(body, patch.id), {**self.values, **body}
        self.changed = set(body)
        return True

    def _rebase(self, command: Command) -> None:
        """Make a put, create or delete the base, and find the effect of each patch again."""
        patches = dict(self.kept)
        for name, patch_id in self.fields.items():
            value = self.values[name]
            patch = patches.get(patch_id) or _make_part(command, patch_id)
            patches[patch_id] = patch._replace(body={**(patch.body or {}), name: value})
        is_create, is_delete = command.op == "create", command.op == "delete"
        self.base = Base(command.id, is_create=is_create, is_delete=is_delete)
        self.values = dict(command.body or {})
        self.fields, self.kept = {}, {}
        self.new_base, self.changed = command, set()
        for patch in patches.values():
            if patch.id < command.id:
                if is_create:
                    self.kept[patch.id] = patch
            elif is_delete:
                self.kept[patch.id] = patch
            else:
                self._set_fields(patch.id, patch.body or {})

    def _absorb_patch(self, patch: Command) -> CountedAs:
        if self.has_taken(patch.id) or patch.id in self.recent:
            return "duplicate"
        base = self.base
        is_older = base is not None and patch.id < base.id
        if base is not None and is_older and not base.is_create:
            return "superseded"
        body = dict(patch.body or {})
        if self.fields or self.kept:
            body = dict(self._list_newest(patch))
            if not body:
                self.remember([patch.id])
                return "superseded"
            self._drop_from_kept(body)
        if is_older or not self.has_item:
            self.kept[patch.id] = patch._replace(body=body)
            return "superseded" if is_older else "applied"
        self._set_fields(patch.id, body)
        return "applied"

    def _list_newest(self, patch: Command) -> Iterator[tuple[str, Any]]:
        """The fields that no newer patch sets."""
        for name, value in (patch.body or {}).items():
            if self.fields.get(name, "") > patch.id:
                continue
            if any(k.id > patch.id and name in (k.body or {}) for k in self.kept.values()):
                continue
            yield name, value

    def _drop_from_kept(self, body: Mapping[str, Any]) -> None:
        """Take fields from older kept patches, which a newer patch sets."""
        for kept in list(self.kept.values()):
            remaining = {n: v for n, v in (kept.body or {}).items() if n not in body}
            if len(remaining) == len(kept.body or {}):
                continue
            if remaining:
                self.kept[kept.id] = kept._replace(body=remaining)
            else:
                del self.kept[kept.id]
                self.remember([kept.id])

    def _set_fields(self, patch_id: str, body: Mapping[str, Any]) -> None:
        fields = self.fields
        displaced = {fields[name] for name in body if name in fields} if fields else set()
        fields.update(dict.fromkeys(body, patch_id))
        self.values.update(body)
        self.changed.update(body)
        if lost := displaced.difference(fields.values()):
            self.remember(lost)

    def remember(self, patch_ids: Iterable[str]) -> None:
        """Remember the last ids of patches that have no effect left."""
        self.recent = sorted({*self.recent, *patch_ids})[-RECENT_IDS:]


def _make_part(command: Command, patch_id: str) -> Command:
    """What is left of a patch with values in a row; its caller is not known any more."""
    return command._replace(
        id=patch_id, op="patch", by="", trace=None, body=None, amends=None, condition=None
    )
