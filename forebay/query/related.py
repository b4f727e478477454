"""Resolution of `name!hint` in `select=` to a relation, with PostgREST's rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from forebay.problem import Problem, ProblemError
from forebay.query.faults import listed, shown
from forebay.resource.relations import Relation
from forebay.resource.spec import ResourceSpec


def found_relation(
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
    named: list[Relation] = []
    for candidates in _by_rank(relations, written):
        found = [relation for relation in candidates if hint is None or hint in relation.hints]
        if len(found) == 1:
            return found[0]
        if found:
            raise _ambiguous(parameter, spec, written, found)
        named += candidates
    asked = written if hint is None else f"{written}!{hint}"
    raise _unknown(parameter, spec, named or relations, asked)


def _by_rank(relations: Sequence[Relation], written: str) -> Iterator[list[Relation]]:
    along_one = [relation for relation in relations if relation.through is None]
    yield [relation for relation in along_one if written in relation.names]
    yield [relation for relation in along_one if written in relation.other_names]
    yield [r for r in relations if r.through is not None and written in r.names]


def _ambiguous(
    parameter: str, spec: ResourceSpec, written: str, found: Sequence[Relation]
) -> ProblemError:
    spelled = listed(_spelled(relation, written, found) for relation in found)
    detail = f"{parameter}: {shown(written)} can be several relations of {spec.path}"
    return ProblemError(
        Problem(
            "PGRST201",
            f"{detail}: {spelled}",
            details=[
                {
                    "cardinality": relation.cardinality,
                    "relationship": _described(spec, relation),
                    "embedding": f"{spec.path} with {relation.target.path}",
                }
                for relation in found
            ],
            hint=f"Write one of these in the place of {shown(written)}: {spelled}. Where each "
            "leads is said in details.",
        )
    )


def _spelled(relation: Relation, written: str, others: Sequence[Relation]) -> str:
    """Return the spelling that selects this relation unambiguously."""
    alike = [other for other in others if relation.hint in other.hints]
    if relation.through is None or len(alike) == 1:
        return f"{written}!{relation.hint}"
    # A join resource has several pairs of references with this hint: embed it explicitly.
    through = relation.through
    return f"{through.spec.path}!{through.near.name}({relation.target.path}!{through.far.name}(*))"


def _described(spec: ResourceSpec, relation: Relation) -> str:
    if relation.through is not None:
        join, near, far = relation.through.spec.path, relation.through.near, relation.through.far
        return f"{join} using {join}({near.name}) and {join}({far.name})"
    ours, theirs = relation.column.name, relation.target_column.name
    return f"{relation.hint} using {spec.path}({ours}) and {relation.target.path}({theirs})"


def _unknown(
    parameter: str, spec: ResourceSpec, relations: Sequence[Relation], asked: str
) -> ProblemError:
    spelled = dict.fromkeys(f"{relation.names[0]}!{relation.hint}" for relation in relations)
    there = f"there are {listed(spelled)}" if spelled else f"{spec.path} has no relations"
    detail = f"{parameter}: {spec.path} has no relation {shown(asked)}; {there}"
    return ProblemError(Problem("PGRST200", detail, hint=there))
