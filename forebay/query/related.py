"""Resolution of `name!hint` in `select=` to a relation, with PostgREST's rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from forebay.problem import Problem, ProblemError
from forebay.query.faults import listed, shown
from forebay.resource.relations import Relation
from forebay.resource.spec import ResourceSpec


def find_relation(
    parameter: str,
    spec: ResourceSpec,
    relations: Sequence[Relation],
    written: str,
    hint: str | None,
) -> Relation:
    """Return the relation with this name.

    A direct relation named by its reference or path precedes one named by its column, and both
    precede a relation through a join resource. Therefore a new resource does not make existing
    requests ambiguous.

    Args:
        parameter: the parameter's name, for messages.
        spec: the resource that the relation starts from.
        relations: the relations from it.
        written: the relation's name in the request.
        hint: the text after `!`, if any.

    Raises:
        ProblemError: PGRST200, no relation matches; PGRST201, several match.
    """
    with_name: list[Relation] = []
    for candidates in _group_by_rank(relations, written):
        matches = [relation for relation in candidates if hint is None or hint in relation.hints]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise _describe_ambiguous(parameter, spec, written, matches)
        with_name += candidates
    wanted_name = written if hint is None else f"{written}!{hint}"
    raise _describe_unknown(parameter, spec, with_name or relations, wanted_name)


def _group_by_rank(relations: Sequence[Relation], name: str) -> Iterator[list[Relation]]:
    direct = [relation for relation in relations if relation.through is None]
    yield [relation for relation in direct if name in relation.names]
    yield [relation for relation in direct if name in relation.other_names]
    yield [
        candidate
        for candidate in relations
        if candidate.through is not None and name in candidate.names
    ]


def _describe_ambiguous(
    parameter: str, spec: ResourceSpec, name: str, matches: Sequence[Relation]
) -> ProblemError:
    spellings = listed(_spell(relation, name, matches) for relation in matches)
    detail = f"{parameter}: {shown(name)} matches several relations of {spec.path}"
    return ProblemError(
        Problem(
            "PGRST201",
            f"{detail}: {spellings}",
            details=[
                {
                    "cardinality": relation.cardinality,
                    "relationship": _describe(spec, relation),
                    "embedding": f"{spec.path} with {relation.target.path}",
                }
                for relation in matches
            ],
            hint=f"Use one of these instead of {shown(name)}: {spellings}. The member details "
            "describes each of them.",
        )
    )


def _spell(relation: Relation, name: str, matches: Sequence[Relation]) -> str:
    """Return the spelling that selects this relation unambiguously."""
    same_hint = [other for other in matches if relation.hint in other.hints]
    if relation.through is None or len(same_hint) == 1:
        return f"{name}!{relation.hint}"
    # A join resource has several pairs of references with this hint: embed it explicitly.
    through = relation.through
    return f"{through.spec.path}!{through.near.name}({relation.target.path}!{through.far.name}(*))"


def _describe(spec: ResourceSpec, relation: Relation) -> str:
    if relation.through is not None:
        join, near, far = relation.through.spec.path, relation.through.near, relation.through.far
        return f"{join} using {join}({near.name}) and {join}({far.name})"
    near_name, far_name = relation.column.name, relation.target_column.name
    return f"{relation.hint} using {spec.path}({near_name}) and {relation.target.path}({far_name})"


def _describe_unknown(
    parameter: str, spec: ResourceSpec, relations: Sequence[Relation], name: str
) -> ProblemError:
    spellings = dict.fromkeys(f"{relation.names[0]}!{relation.hint}" for relation in relations)
    choices = f"it has {listed(spellings)}" if spellings else f"{spec.path} has no relations"
    detail = f"{parameter}: {spec.path} has no relation {shown(name)}; {choices}"
    return ProblemError(Problem("PGRST200", detail, hint=choices))
