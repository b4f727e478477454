"""Which resources a parsed query refers to, wherever in its tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from forebay.resource.spec import FieldSpec, ResourceSpec

#: The names of a node's members by its type, each looked up once.
_MEMBERS: Final[dict[type[Any], tuple[str, ...]]] = {}


def named_resources(node: object) -> frozenset[str]:
    """The paths of all resources that a query's tree refers to.

    The whole tree is searched for specs instead of the known kinds of members, so that a new kind
    of member can't be forgotten here.

    Args:
        node: a query, or any part of one.
    """
    return frozenset(spec.path for spec in _specs(node))


def _specs(node: object) -> Iterator[ResourceSpec]:
    if isinstance(node, ResourceSpec):
        yield node
    elif isinstance(node, (tuple, list, frozenset, set)):
        for member in node:
            yield from _specs(member)
    elif isinstance(node, Mapping):
        for member in node.values():
            yield from _specs(member)
    else:
        for name in _members(type(node)):
            yield from _specs(getattr(node, name))


def _members(kind: type[Any]) -> tuple[str, ...]:
    """The names of a node's members; none of a plain value, or of a column.

    A column belongs to a resource that the tree names beside it. Members that nodes are not
    compared by lead out of the tree: of a relation, to every other one.
    """
    names = _MEMBERS.get(kind)
    if names is None:
        is_node = kind is not FieldSpec and is_dataclass(kind)
        names = _MEMBERS[kind] = tuple(f.name for f in fields(kind) if f.compare) if is_node else ()
    return names
