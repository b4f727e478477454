"""The ways from resource to resource along declared references, in both directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from forebay.resource.spec import FieldSpec, ResourceSpec


@dataclass(frozen=True, slots=True)
class Relation:
    """One reference, seen from one of its two ends."""

    #: What `select=` may call it: the reference's own name (only from the referring end), then the
    #: target's path. Two relations may share a name; `!column` then tells them apart. Of a
    #: resource that refers to itself the path leads to the referring rows only, and without an
    #: own name the column's leads to the row referred to.
    names: tuple[str, ...]
    #: The referring column's name, which is the hint: `countries!country_code(…)`.
    hint: str
    target: ResourceSpec
    #: Of the resource that the relation starts from.
    column: FieldSpec
    target_column: FieldSpec
    #: One row leads to many (the reverse of a reference), not to one or none.
    many: bool


def relations(resources: Mapping[str, ResourceSpec]) -> dict[str, tuple[Relation, ...]]:
    """By a resource's path, the relations that start from it."""
    found: dict[str, list[Relation]] = {path: [] for path in resources}
    for spec in resources.values():
        for field, target in _references(spec, resources):
            found[spec.path].append(
                Relation(
                    names=_forward_names(spec, field, target),
                    hint=field.name,
                    target=target,
                    column=field,
                    target_column=target.key,
                    many=False,
                )
            )
            found[target.path].append(
                Relation(
                    names=(spec.path,),
                    hint=field.name,
                    target=spec,
                    column=target.key,
                    target_column=field,
                    many=not field.unique,
                )
            )
    return {path: tuple(relations) for path, relations in found.items()}


def _forward_names(spec: ResourceSpec, field: FieldSpec, target: ResourceSpec) -> tuple[str, ...]:
    own = field.references.name if field.references else None
    if target is spec:
        return (own or field.name,)
    return (target.path,) if own in {None, target.path} else (str(own), target.path)


def _references(
    spec: ResourceSpec, resources: Mapping[str, ResourceSpec]
) -> Iterator[tuple[FieldSpec, ResourceSpec]]:
    for field in spec.fields:
        if field.references is not None:
            yield field, resources[field.references.path]
