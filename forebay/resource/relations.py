"""The ways from resource to resource along declared references, in both directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from forebay.resource.spec import FieldSpec, ResourceSpec


@dataclass(frozen=True, slots=True)
class Through:
    """The resource that joins two others, with its references to both."""

    spec: ResourceSpec
    #: Refers to the resource that the relation starts from.
    near: FieldSpec
    #: Refers to the relation's target.
    far: FieldSpec


@dataclass(frozen=True, slots=True)
class Relation:
    """One reference, seen from one of its two ends, or two references of a join resource."""

    #: What `select=` may call it: the reference's own name (only from the referring end), then the
    #: target's path. Two relations may share a name; a hint behind `!` then tells them apart. Of a
    #: resource that refers to itself the path leads to the referring rows only, and without an
    #: own name the column's leads to the row referred to.
    names: tuple[str, ...]
    #: The hint that the documentation and problems show: the referring column's name
    #: (`countries!country_code(…)`), or the join resource's path.
    hint: str
    target: ResourceSpec
    #: Of the resource that the relation starts from.
    column: FieldSpec
    target_column: FieldSpec
    #: One row leads to many (the reverse of a reference), not to one or none.
    many: bool
    #: All that may stand behind `!` (PostgREST's `!hint`), `hint` among them.
    hints: tuple[str, ...] = ()
    #: What `select=` may call it where no relation has that for one of its `names`.
    other_names: tuple[str, ...] = ()
    #: Of a relation of many to many rows.
    through: Through | None = None
    #: Every relation of every resource, by the path that it starts from.
    known: Mapping[str, tuple[Relation, ...]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def onward(self) -> tuple[Relation, ...]:
        """The relations that start from the target."""
        return self.known.get(self.target.path, ())

    @property
    def cardinality(self) -> str:
        """As PostgREST calls it: `many-to-one`, `one-to-many` and so on."""
        if self.through is not None:
            return "many-to-many"
        if self.many:
            return "one-to-many"
        return "one-to-one" if self.referring_column.unique else "many-to-one"

    @property
    def referring_column(self) -> FieldSpec:
        """The column that has the reference; of a join resource the one to the start."""
        if self.through is not None:
            return self.through.near
        return self.column if self.column.references is not None else self.target_column


def relations(resources: Mapping[str, ResourceSpec]) -> dict[str, tuple[Relation, ...]]:
    """By a resource's path, the relations that start from it.

    Those along one reference come first, then those of many to many rows.
    """
    known: dict[str, tuple[Relation, ...]] = {}
    found: dict[str, list[Relation]] = {path: [] for path in resources}
    for spec in resources.values():
        for column, target in _references(spec, resources):
            found[spec.path].append(_forward(spec, column, target, known))
            found[target.path].append(_backward(spec, column, target, known))
    for spec in resources.values():
        for start, relation in _joins(spec, resources, known):
            found[start].append(relation)
    known |= {path: tuple(starting) for path, starting in found.items()}
    return known


def direct(relations: Sequence[Relation]) -> tuple[Relation, ...]:
    """The relations along one reference: those whose names are parameters of their own."""
    return tuple(relation for relation in relations if relation.through is None)


def _forward(
    spec: ResourceSpec,
    column: FieldSpec,
    target: ResourceSpec,
    known: Mapping[str, tuple[Relation, ...]],
) -> Relation:
    return Relation(
        names=_forward_names(spec, column, target),
        hint=column.name,
        target=target,
        column=column,
        target_column=target.key,
        many=False,
        hints=_hints(column, target),
        other_names=(column.name,),
        known=known,
    )


def _backward(
    spec: ResourceSpec,
    column: FieldSpec,
    target: ResourceSpec,
    known: Mapping[str, tuple[Relation, ...]],
) -> Relation:
    own = _own_name(column)
    return Relation(
        names=(spec.path,),
        hint=column.name,
        target=spec,
        column=target.key,
        target_column=column,
        many=not column.unique,
        hints=_hints(column, target),
        other_names=() if own is None or target is spec else (own,),
        known=known,
    )


def _joins(
    spec: ResourceSpec,
    resources: Mapping[str, ResourceSpec],
    known: Mapping[str, tuple[Relation, ...]],
) -> Iterator[tuple[str, Relation]]:
    """The relations between what two references of a resource lead to, with their starts."""
    references = list(_references(spec, resources))
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
                    known=known,
                ),
            )


def _hints(column: FieldSpec, target: ResourceSpec) -> tuple[str, ...]:
    """The referring column, the reference's name, and the key that is referred to."""
    own = _own_name(column)
    return (column.name, *(() if own is None else (own,)), target.key.name)


def _own_name(column: FieldSpec) -> str | None:
    return column.references.name if column.references else None


def _forward_names(spec: ResourceSpec, field: FieldSpec, target: ResourceSpec) -> tuple[str, ...]:
    own = _own_name(field)
    if target is spec:
        return (own or field.name,)
    return (target.path,) if own in {None, target.path} else (str(own), target.path)


def _references(
    spec: ResourceSpec, resources: Mapping[str, ResourceSpec]
) -> Iterator[tuple[FieldSpec, ResourceSpec]]:
    for column in spec.fields:
        if column.references is not None:
            yield column, resources[column.references.path]
