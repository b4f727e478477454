"""The levels of a list query during parsing: the list itself and each embedded resource.

A condition can name a relation before that relation's order and filters are parsed. Conditions
are therefore parsed into drafts, which are resolved after all parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from forebay.query.ast import Condition, Embedded, Filter, Group, OrderTerm, Presence, Selected
from forebay.query.faults import fault
from forebay.query.order import read_order
from forebay.query.paging import read_window
from forebay.query.select import Join
from forebay.resource.relations import Relation
from forebay.resource.spec import ResourceSpec


@dataclass(frozen=True, slots=True)
class DraftPresence:
    """`relation=not.is.null` of a relation that is not completely parsed."""

    level: Level
    negated: bool


@dataclass(frozen=True, slots=True)
class DraftGroup:
    """A group of drafts."""

    joined_by: Literal["and", "or"]
    members: tuple[Draft, ...]
    negated: bool = False


Draft: TypeAlias = Filter | DraftPresence | DraftGroup


class Setting(NamedTuple):
    """The text of `order`, `limit` or `offset`, and the parameter that contains it."""

    parameter: str
    text: str


class ResolvedLevel(NamedTuple):
    """A completely parsed level."""

    select: tuple[Selected | Embedded, ...]
    where: Group
    order: tuple[OrderTerm, ...]


@dataclass(eq=False, slots=True)
class Level:
    """One level: its resource, its members, and the conditions and settings parsed so far."""

    spec: ResourceSpec
    members: tuple[Selected | Join, ...]
    #: The relations from the level's resource.
    relations: Sequence[Relation]
    #: The member that embeds the level; None for the list itself.
    join: Join | None = None
    #: One level for each `Join` of the members, in their order.
    inner: tuple[Level, ...] = field(init=False)
    conditions: list[Draft] = field(default_factory=list)
    settings: dict[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Create the levels below."""
        self.inner = tuple(
            Level(member.relation.target, member.members, member.relation.onward, member)
            for member in self.members
            if isinstance(member, Join)
        )

    def named(self, name: str) -> list[Level]:
        """Return the levels directly below that this name refers to.

        Names in the answer are compared first: the alias, or the relation's name if it has no
        alias. If none matches, a relation's name refers to all its levels with an alias.
        """
        joins = [(level, level.join) for level in self.inner if level.join is not None]
        levels = [level for level, join in joins if join.name == name]
        return levels or [level for level, join in joins if join.written == name]

    def set(self, word: str, setting: Setting) -> None:
        """Set the order, limit or offset.

        Raises:
            ProblemError: PGRST100, it is already set, or the level holds at most one row.
        """
        join = self.join
        if join is not None and not join.relation.many:
            raise fault(
                "PGRST100",
                setting.parameter,
                f"{join.name} is at most one row, so {word} is not supported",
            )
        if word in self.settings:
            raise fault(
                "PGRST100", setting.parameter, f"{word} is given twice for the same relation"
            )
        self.settings[word] = setting

    def resolve(self) -> ResolvedLevel:
        """Resolve the drafts and settings of the level and of the levels below.

        Raises:
            ProblemError: an order, limit or offset is invalid.
        """
        embedded_by_level = {level: level.resolve_embedded() for level in self.inner}
        embedded = iter(embedded_by_level.values())
        return ResolvedLevel(
            select=tuple(next(embedded) if isinstance(m, Join) else m for m in self.members),
            where=Group(
                members=tuple(
                    _resolve_condition(draft, embedded_by_level) for draft in self.conditions
                )
            ),
            order=self._resolve_order(embedded_by_level),
        )

    def resolve_embedded(self) -> Embedded:
        """Resolve the level as a member of the level above.

        Raises:
            ProblemError: as `resolve`.
        """
        join = self.join
        assert join is not None  # noqa: S101 - only embedded levels call this
        select, where, order = self.resolve()
        limit, offset = 1, 0
        if join.relation.many:
            limit, offset = self._resolve_window(join.name)
        return Embedded(
            relation=join.relation,
            name=join.name,
            inner=join.inner,
            members=select,
            where=where,
            order=order if join.relation.many else (),
            limit=limit,
            offset=offset,
        )

    def _resolve_order(self, embedded_by_level: Mapping[Level, Embedded]) -> tuple[OrderTerm, ...]:
        parameter, text = self.settings.get("order", ("order", None))

        def related(name: str) -> Sequence[Embedded]:
            return [embedded_by_level[level] for level in self.named(name)]

        return read_order(parameter, text, self.spec, related)

    def _resolve_window(self, name: str) -> tuple[int, int]:
        limit, offset = self.settings.get("limit"), self.settings.get("offset")
        return read_window(f"{name}.", limit and limit.text, offset and offset.text)


def _resolve_condition(draft: Draft, embedded_by_level: Mapping[Level, Embedded]) -> Condition:
    match draft:
        case DraftGroup(joined_by, members, negated):
            return Group(
                joined_by,
                tuple(_resolve_condition(member, embedded_by_level) for member in members),
                negated,
            )
        case DraftPresence(level, negated):
            return Presence(embedded_by_level[level], negated)
        case _:
            return draft


def filters(conditions: Sequence[Condition]) -> Iterator[Filter | Presence]:
    """Iterate over the conditions inside all groups."""
    for condition in conditions:
        if isinstance(condition, Group):
            yield from filters(condition.members)
        else:
            yield condition
