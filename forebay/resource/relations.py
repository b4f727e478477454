"""Relations between resources: declared references, in both directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from forebay.resource.spec import FieldSpec, ResourceSpec


@dataclass(frozen=True, slots=True)
class Through:
    """A join resource, with its references to two others."""

    spec: ResourceSpec
    #: The reference to the resource that the relation starts from.
    near: FieldSpec
    #: The reference to the relation's target.
    far: FieldSpec


@dataclass(frozen=True, slots=True)
class Relation:
    """A reference in one direction, or two references of a join resource."""

    #: Names in `select=`: the reference's own name (only from the referring side), then the
    #: target's path. If relations share a name, a hint after `!` selects one. If a resource refers
    #: to itself, its path selects the referring rows; the reference's own name, or else the
    #: column's, selects the referenced row.
    names: tuple[str, ...]
    #: The hint in the documentation and in problems: the referring column's name
    #: (`countries!country_code(…)`), or the join resource's path.
    hint: str
    target: ResourceSpec
    #: The column of the resource that the relation starts from.
    column: FieldSpec
    target_column: FieldSpec
    #: A row may have many related rows (the reverse of a reference), rather than at most one.
    many: bool
    #: All valid texts after `!` (PostgREST's `!hint`), including `hint`.
    hints: tuple[str, ...] = ()
    #: Names in `select=` that apply if no relation has them in `names`.
    other_names: tuple[str, ...] = ()
    #: The join resource of a many-to-many relation.
    through: Through | None = None
    #: All relations of all resources, by the path that they start from.
    known: Mapping[str, tuple[Relation, ...]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def onward(self) -> tuple[Relation, ...]:
        """The relations that start from the target."""
        return self.known.get(self.target.path, ())

    @property
    def cardinality(self) -> str:
        """PostgREST's term for the cardinality: `many-to-one`, `one-to-many` and so on."""
        if self.through is not None:
            return "many-to-many"
        if self.many:
            return "one-to-many"
        return "one-to-one" if self.referring_column.unique else "many-to-one"

    @property
    def referring_column(self) -> FieldSpec:
        """The column with the reference; in a join resource, the reference to the start."""
        if self.through is not None:
            return self.through.near
        return self.column if self.column.references is not None else self.target_column


def find_relations(resources: Mapping[str, ResourceSpec]) -> dict[str, tuple[Relation, ...]]:
    """Return the relations from each resource, by its path.

    Direct relations come first, then many-to-many relations.
    """
    relations_by_path: dict[str, tuple[Relation, ...]] = {}
    lists_by_path: dict[str, list[Relation]] = {path: [] for path in resources}
    for spec in resources.values():
        for column, target in _list_references(spec, resources):
            lists_by_path[spec.path].append(_build_forward(spec, column, target, relations_by_path))
            lists_by_path[target.path].append(
                _build_backward(spec, column, target, relations_by_path)
            )
    for spec in resources.values():
        for start, relation in _build_joins(spec, resources, relations_by_path):
            lists_by_path[start].append(relation)
    relations_by_path |= {path: tuple(starting) for path, starting in lists_by_path.items()}
    return relations_by_path


def select_direct(relations: Sequence[Relation]) -> tuple[Relation, ...]:
    """Return the relations without a join resource; only their names are query parameters."""
    return tuple(relation for relation in relations if relation.through is None)


def _build_forward(
    spec: ResourceSpec,
    column: FieldSpec,
    target: ResourceSpec,
    relations_by_path: Mapping[str, tuple[Relation, ...]],
) -> Relation:
    return Relation(
        names=_list_forward_names(spec, column, target),
        hint=column.name,
        target=target,
        column=column,
        target_column=target.key,
        many=False,
        hints=_list_hints(column, target),
        other_names=(column.name,),
        known=relations_by_path,
    )


def _build_backward(
    spec: ResourceSpec,
    column: FieldSpec,
    target: ResourceSpec,
    relations_by_path: Mapping[str, tuple[Relation, ...]],
) -> Relation:
    own_name = _get_own_name(column)
    return Relation(
        names=(spec.path,),
        hint=column.name,
        target=spec,
        column=target.key,
        target_column=column,
        many=not column.unique,
        hints=_list_hints(column, target),
        other_names=() if own_name is None or target is spec else (own_name,),
        known=relations_by_path,
    )


def _build_joins(
    spec: ResourceSpec,
    resources: Mapping[str, ResourceSpec],
    relations_by_path: Mapping[str, tuple[Relation, ...]],
) -> Iterator[tuple[str, Relation]]:
    """Yield the relations through a join resource, each with the path that it starts from."""
    references = list(_list_references(spec, resources))
    for near, start in references:
        for far, target in references:
            if near is far:
                continue
            yield (
                start.path,
                Relation(
                    names=(target.path,),
                    hint=spec.path,
                    target=target,
                    column=start.key,
                    target_column=target.key,
                    many=True,
                    hints=(spec.path,),
                    through=Through(spec, near, far),
                    known=relations_by_path,
                ),
            )


def _list_hints(column: FieldSpec, target: ResourceSpec) -> tuple[str, ...]:
    """Return the names of the referring column, the reference (if named) and the target's key."""
    own_name = _get_own_name(column)
    return (column.name, *(() if own_name is None else (own_name,)), target.key.name)


def _get_own_name(column: FieldSpec) -> str | None:
    return column.references.name if column.references else None


def _list_forward_names(
    spec: ResourceSpec, field: FieldSpec, target: ResourceSpec
) -> tuple[str, ...]:
    own_name = _get_own_name(field)
    if target is spec:
        return (own_name or field.name,)
    return (target.path,) if own_name in {None, target.path} else (str(own_name), target.path)


def _list_references(
    spec: ResourceSpec, resources: Mapping[str, ResourceSpec]
) -> Iterator[tuple[FieldSpec, ResourceSpec]]:
    for column in spec.fields:
        if column.references is not None:
            yield column, resources[column.references.path]
