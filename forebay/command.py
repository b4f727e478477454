"""The command: one accepted write to one key of one resource."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

Op: TypeAlias = Literal["create", "put", "delete", "patch"]
OPS: frozenset[str] = frozenset({"create", "put", "delete", "patch"})

#: A key as JSON carries it; a UUID key is its canonical text.
KeyValue: TypeAlias = int | str
#: The path of a resource, and the key of an item.
Target: TypeAlias = tuple[str, KeyValue]
Body: TypeAlias = dict[str, Any]


class Command(NamedTuple):
    """One accepted write. Immutable; a replay never changes any part of it.

    A tuple, because apply creates many: a frozen dataclass takes eight times as long to create.
    """

    #: UUIDv7 in canonical text: acceptance time and order of commands.
    id: str
    op: Op
    #: The resource's path, such as `cities`.
    resource: str
    key: KeyValue
    #: The schema version of the resource under which `body` was validated.
    schema: int
    #: The caller's identity, from the authorizer.
    by: str
    #: W3C traceparent of the request, if it had one.
    trace: str | None
    #: The validated body as JSON values: all fields, or the fields that a patch sets. None for a
    #: delete.
    body: Body | None
    #: The rejected command (or invalid line) that an operator retried as this command; see
    #: docs/archive-format.md, "Amendments". It records the origin only: apply never depends on it.
    amends: str | None = None
    #: The condition under which the command applies, as `forebay.conditions.Condition` reads it;
    #: None: it always applies.
    condition: Mapping[str, Any] | None = None

    def beats(self, other: Command) -> bool:
        """Return whether this command wins over `other` of the same key (law 2); not for patches.

        Puts and deletes beat creates; among puts and deletes the greatest id wins, among creates
        the smallest (a repeated create never overwrites a later change).
        """
        if (self.op == "create") != (other.op == "create"):
            return other.op == "create"
        return self.id < other.id if self.op == "create" else self.id > other.id
