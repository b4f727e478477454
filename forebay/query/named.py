"""The set of resources that a parsed query refers to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from forebay.resource.spec import FieldSpec, ResourceSpec

#: Cache: the names of a node's members, by node type.
_MEMBERS: Final[dict[type[Any], tuple[str, ...]]] = {}


def find_named_resources(node: object) -> frozenset[str]:
    """Return the paths of all resources that a query's tree refers to.

    The function searches every node for specs rather than a list of known members, so that a
    member that is added later is always covered.

    Args:
        node: a query, or a part of a query.
    """
    return frozenset(spec.path for spec in _walk_specs(node))


def _walk_specs(node: object) -> Iterator[ResourceSpec]:
    if isinstance(node, ResourceSpec):
        yield node
    elif isinstance(node, (tuple, list, frozenset, set)):
        for member in node:
            yield from _walk_specs(member)
    elif isinstance(node, Mapping):
        for member in node.values():
            yield from _walk_specs(member)
    else:
        for name in _list_members(type(node)):
            yield from _walk_specs(getattr(node, name))


def _list_members(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of a node's members; empty for a plain value and for a column.

    The resource of a column is already in the tree. Members with `compare=False` lead out of the
    tree: a relation's lead to all other relations.
    """
    names = _MEMBERS.get(kind)
    if names is None:
        is_node = kind is not FieldSpec and is_dataclass(kind)
        names = _MEMBERS[kind] = tuple(f.name for f in fields(kind) if f.compare) if is_node else ()
    return names
